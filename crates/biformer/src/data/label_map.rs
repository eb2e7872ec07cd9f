//! Label maps: what an annotator sees in each cell of a picture (Jiang et al., *All Tokens Matter*,
//! 2021, §3.1). One small safetensors file a picture, in a folder that mirrors that of the pictures.
//!
//! docs/token_labeling.md describes the format.

use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};

use crate::files::write_atomically;
use crate::{Error, Result};

/// Classes that are kept for each cell; fewer only if there are no more.
pub const LABEL_MAP_TOPK: usize = 5;

/// The file that says what the maps of a folder have in common.
const INFO: &str = "label_maps.json";

/// The best classes of each cell of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelMap {
    /// Rows and columns of cells.
    pub grid: [usize; 2],
    /// Classes of each cell, best first: `[topk, rows, columns]`
    pub classes: Vec<u16>,
    /// Their scores: `[topk, rows, columns]`. Classes that are left out have about 0.
    pub scores: Vec<f32>,
}

/// What the maps of a folder have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelMapsInfo {
    /// Which model said it.
    pub annotator: String,
    /// Rows and columns of cells.
    pub grid: [usize; 2],
    /// Names of the classes, in the order of their numbers.
    pub classes: Vec<String>,
}

/// A folder of label maps for a folder of pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMaps {
    root: PathBuf,
    pictures: PathBuf,
    /// What the maps have in common.
    pub info: LabelMapsInfo,
}

impl LabelMap {
    /// The best classes by the logits of each cell.
    ///
    /// Scores are logits less the logarithm of the mean of e^logit over the classes that are left out.
    /// A softmax that takes those as 0 then gives the annotator's own probabilities to the classes
    /// that are kept, however few there are.
    ///
    /// # Shapes
    /// - logits: `[rows, columns, num_classes]`
    pub fn from_logits(logits: &[f32], grid: [usize; 2]) -> Self {
        let cells = grid[0] * grid[1];
        let num_classes = logits.len() / cells;
        let topk = LABEL_MAP_TOPK.min(num_classes);
        let mut map =
            Self { grid, classes: vec![0; topk * cells], scores: vec![0.0; topk * cells] };
        for (cell, logits) in logits.chunks(num_classes).enumerate() {
            let mut ranked: Vec<usize> = (0..num_classes).collect();
            ranked.sort_by(|&a, &b| logits[b].total_cmp(&logits[a])); // stable: of equals the first
            let (kept, rest) = ranked.split_at(topk);
            let of = if rest.is_empty() { kept } else { rest };
            let zero = log_mean_exp(of.iter().map(|&class| logits[class]));
            for (place, &class) in kept.iter().enumerate() {
                map.classes[place * cells + cell] = class as u16;
                map.scores[place * cells + cell] = logits[class] - zero;
            }
        }
        map
    }

    /// Classes kept for each cell.
    pub fn topk(&self) -> usize {
        self.classes.len() / (self.grid[0] * self.grid[1])
    }

    /// Writes the file, whole or not at all; scores become float16.
    pub fn write(&self, path: &Path) -> Result<()> {
        let scores: Vec<u8> =
            self.scores.iter().flat_map(|&score| f16::from_f32(score).to_le_bytes()).collect();
        let classes: Vec<u8> = self.classes.iter().flat_map(|class| class.to_le_bytes()).collect();
        let shape = vec![self.topk(), self.grid[0], self.grid[1]];
        let view = |dtype, bytes| TensorView::new(dtype, shape.clone(), bytes);
        let file = view(Dtype::F16, scores.as_slice())
            .and_then(|scores| Ok([("scores", scores), ("classes", view(Dtype::U16, &classes)?)]))
            .and_then(|tensors| serialize(tensors, None))
            .expect("shapes and bytes of a map agree");
        write_atomically(path, |writer| std::io::Write::write_all(writer, &file))
    }
}

impl LabelMapsInfo {
    /// The shape of both tensors of a file.
    pub fn shape(&self) -> [usize; 3] {
        [LABEL_MAP_TOPK.min(self.classes.len()), self.grid[0], self.grid[1]]
    }
}

impl LabelMaps {
    /// The label maps in `root` of the pictures below the folder `pictures`.
    ///
    /// # Errors
    /// [`Error::Dataset`] if the folder holds no label maps, or those of other classes.
    pub fn open(root: &Path, pictures: &Path, classes: &[String]) -> Result<Self> {
        let path = root.join(INFO);
        if !path.is_file() {
            let reason =
                format!("holds no label maps (no {INFO}); `biformer label-maps` makes them");
            return Err(Error::dataset(root, reason));
        }
        let info: LabelMapsInfo = read_info(&path)?;
        if info.classes != classes {
            let reason = format!(
                "its label maps are for {}, the pictures have {}; make maps of these pictures",
                some_of(&info.classes),
                some_of(classes)
            );
            return Err(Error::dataset(root, reason));
        }
        if info.grid.contains(&0) {
            return Err(Error::dataset(&path, format!("has a grid of {:?} cells", info.grid)));
        }
        Ok(Self { root: root.to_owned(), pictures: pictures.to_owned(), info })
    }

    /// A folder for label maps, new, or one that goes on as it was begun.
    ///
    /// # Errors
    /// [`Error::Dataset`] if it holds label maps of another annotator, grid or classes.
    pub fn create(root: &Path, pictures: &Path, info: LabelMapsInfo) -> Result<Self> {
        let path = root.join(INFO);
        if path.exists() {
            let found = read_info(&path)?;
            if found != info {
                let reason = format!(
                    "holds label maps of {}, {:?} cells, {}; now it would be {}, {:?} cells, {}: \
                     choose another folder",
                    found.annotator,
                    found.grid,
                    some_of(&found.classes),
                    info.annotator,
                    info.grid,
                    some_of(&info.classes)
                );
                return Err(Error::dataset(root, reason));
            }
        } else {
            create_folder(root)?;
            let json = serde_json::to_string_pretty(&info).expect("it is JSON");
            write_atomically(&path, |file| std::io::Write::write_all(file, json.as_bytes()))?;
        }
        Ok(Self { root: root.to_owned(), pictures: pictures.to_owned(), info })
    }

    /// Where the map of a picture lies: `CLASS/NAME.jpg` has `CLASS/NAME.jpg.safetensors`.
    pub fn path(&self, picture: &Path) -> PathBuf {
        let within = picture.strip_prefix(&self.pictures).unwrap_or(picture);
        let mut path = self.root.join(within).into_os_string();
        path.push(".safetensors");
        path.into()
    }

    /// Writes the map of a picture.
    pub fn write(&self, picture: &Path, map: &LabelMap) -> Result<()> {
        let path = self.path(picture);
        if let Some(folder) = path.parent() {
            create_folder(folder)?;
        }
        map.write(&path)
    }

    /// Reads the map of a picture.
    ///
    /// # Errors
    /// [`Error::Dataset`] if it is damaged, of another shape, or has classes that do not exist.
    pub fn read(&self, picture: &Path) -> Result<LabelMap> {
        let path = self.path(picture);
        let bytes =
            fs::read(&path).map_err(|source| Error::io("read the label map", &path, source))?;
        self.parse(&bytes).map_err(|reason| {
            let cure = "remove the file and run `biformer label-maps` again";
            Error::dataset(&path, format!("is no label map: {reason}; {cure}"))
        })
    }

    fn parse(&self, bytes: &[u8]) -> Result<LabelMap, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let shape = self.info.shape();
        let tensor = |name: &str, dtype: Dtype| {
            let tensor = file.tensor(name).map_err(|_| format!("it has no tensor `{name}`"))?;
            if tensor.dtype() != dtype || tensor.shape() != shape {
                let (found, of) = (tensor.dtype(), tensor.shape());
                return Err(format!(
                    "`{name}`: expected {dtype} of {shape:?}, found {found} of {of:?}"
                ));
            }
            Ok(tensor.data().as_chunks::<2>().0)
        };
        let scores: Vec<f32> = tensor("scores", Dtype::F16)?
            .iter()
            .map(|&bytes| f16::from_le_bytes(bytes).to_f32())
            .collect();
        let classes: Vec<u16> =
            tensor("classes", Dtype::U16)?.iter().map(|&bytes| u16::from_le_bytes(bytes)).collect();
        let num_classes = self.info.classes.len();
        if let Some(class) = classes.iter().find(|&&class| usize::from(class) >= num_classes) {
            return Err(format!("expected classes below {num_classes}, found {class}"));
        }
        if !scores.iter().all(|score| score.is_finite()) {
            return Err("it has scores that are no numbers".to_owned());
        }
        Ok(LabelMap { grid: self.info.grid, classes, scores })
    }
}

fn read_info(path: &Path) -> Result<LabelMapsInfo> {
    let text = fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?;
    serde_json::from_str(&text)
        .map_err(|error| Error::dataset(path, format!("cannot be read: {error}")))
}

fn create_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|source| Error::io("create the folder", folder, source))
}

/// The number of classes and the first of them.
fn some_of(classes: &[String]) -> String {
    let shown = classes.iter().take(3).map(|class| format!("`{class}`")).collect::<Vec<_>>();
    let more = if classes.len() > shown.len() { ", …" } else { "" };
    format!("{} classes ({}{more})", classes.len(), shown.join(", "))
}

fn log_mean_exp(values: impl ExactSizeIterator<Item = f32> + Clone) -> f32 {
    let count = values.len() as f32;
    let max = values.clone().fold(f32::NEG_INFINITY, f32::max);
    max + (values.map(|value| (value - max).exp()).sum::<f32>() / count).ln()
}
