//! Where fixtures are, how they are read, and how two tensors are compared.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use biformer::weights::{StateDict, StateTensor};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::Value;

/// Families of files that must pass, by the start of the name: the test that takes them.
const OWED: [(&str, &str); 39] = [
    ("bra_legacy_", "attention::bra_legacy"),
    ("bra_nchw_", "attention::bra_nchw"),
    ("attn_", "attention::full"),
    ("mini_biformer", "models::classifiers"),
    ("mini_stl", "models::classifiers"),
    ("mini_eps_", "models::classifiers"),
    ("mini_seg", "models::dense_backbones"),
    ("mini_det", "models::dense_backbones"),
    ("mini_grad_", "models::gradients"),
    ("full_biformer_", "models::full_size"),
    ("ckpt_", "checkpoints::layouts"),
    ("img_", "images::*"),
    ("aug_level_to_arg", "images::rand_augment"),
    ("train_schedules", "training::schedules"),
    ("train_droppath", "training::drop_path"),
    ("train_adamw", "training::adamw"),
    ("train_param_groups", "training::param_groups"),
    ("train_ema", "training::ema"),
    ("train_mixup", "training::mixup"),
    ("metric_coco", "metric_coco::detection::coco"),
    ("metric_rle", "metric_coco::detection::rle"),
    ("metric_miou", "metric_miou::segmentation::mean_iou"),
    ("train_losses", "{training, segmentation}::losses"),
    ("mm_fpn_", "segmentation::pyramids"),
    ("op_fpn_torchvision", "segmentation::torchvision_pyramid"),
    ("op_resize_pool", "segmentation::resize_and_pool"),
    ("mm_semantic_fpn", "segmentation::semantic_fpn"),
    ("mm_upernet", "segmentation::upernet"),
    ("mm_fcn_aux", "segmentation::auxiliary_fcn"),
    ("mm_anchors", "detection::boxes::anchors"),
    ("op_anchors_torchvision", "detection::boxes::torchvision_anchors"),
    ("mm_boxes", "detection::boxes::{box_coding, assignment}"),
    ("op_boxes", "detection::boxes::torchvision_boxes"),
    ("op_nms", "detection::boxes::suppression"),
    ("op_losses", "detection::losses::*"),
    ("mm_retina_head", "detection::retinanet::*"),
    ("op_roialign", "detection::mask_rcnn::roi_align"),
    ("mm_rpn_head", "detection::mask_rcnn::rpn_head"),
    ("mm_roi_heads", "detection::mask_rcnn::roi_heads"),
];

/// The folder of the fixtures, and whether it was asked for by name.
pub fn folder() -> (PathBuf, bool) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if let Some(folder) = std::env::var_os("BIFORMER_FIXTURES") {
        // Tests run in the folder of their crate, cargo is called in that of the workspace.
        return (workspace.join(folder), true);
    }
    let full = workspace.join("../shared/fixtures");
    if full.is_dir() { (full, false) } else { (workspace.join("fixtures"), false) }
}

/// The files of a family, sorted: names that start with `family` (up to a `*`, then contain the
/// rest) and end in one of `extensions`.
pub fn files(family: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let (prefix, part) = family.split_once('*').unwrap_or((family, ""));
    let (folder, _) = folder();
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| name(path).starts_with(prefix) && name(path).contains(part))
        .filter(|path| extensions.iter().any(|ext| path.extension().is_some_and(|e| e == *ext)))
        .collect();
    files.sort();
    files
}

/// File name of a path.
pub fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A line that `cargo test` shows even for tests that pass.
pub fn report(line: std::fmt::Arguments<'_>) {
    writeln!(std::io::stderr(), "parity: {line}").expect("stderr can be written");
}

/// Runs `check` on every file of a family; it returns the number of comparisons, or why the
/// file is not owed.
pub fn for_each_file(
    family: &str,
    extensions: &[&str],
    check: impl Fn(&Path) -> Result<usize, String>,
) {
    let (mut used, mut comparisons) = (0, 0);
    for path in files(family, extensions) {
        match check(&path) {
            Ok(count) => {
                assert!(count > 0, "{}: nothing was compared", path.display());
                used += 1;
                comparisons += count;
            }
            Err(reason) => report(format_args!("{} is not owed: {reason}", name(&path))),
        }
    }
    report(format_args!("{family}*: {used} files, {comparisons} comparisons"));
}

#[test]
fn folder_is_read() {
    let (folder, asked_for) = folder();
    let owed = OWED.map(|(prefix, _)| files(prefix, &["safetensors", "json", "pth", "png"]).len());
    let count: usize = owed.iter().sum();
    report(format_args!("{} holds {count} files of owed families", folder.display()));
    if folder.ends_with("../../fixtures") {
        report(format_args!("the full set is absent, so only the small one is compared"));
    }
    for ((prefix, test), _) in OWED.iter().zip(owed).filter(|(_, files)| *files == 0) {
        report(format_args!("no file {prefix}*: {test} compares nothing"));
    }
    assert!(!asked_for || count > 0, "BIFORMER_FIXTURES holds no file of an owed family");
}

/// One file of named tensors with the JSON of its header.
pub struct Fixture {
    pub meta: Value,
    pub floats: StateDict,
    pub bytes: BTreeMap<String, (Vec<usize>, Vec<u8>)>,
    pub doubles: BTreeMap<String, Vec<f64>>,
    ints: BTreeMap<String, (Vec<usize>, Vec<i64>)>,
}

impl Fixture {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
        let meta = header.metadata().as_ref().and_then(|metadata| metadata.get("meta"));
        let meta = meta.map_or(Value::Null, |meta| serde_json::from_str(meta).expect("JSON"));
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let mut fixture = Self {
            meta,
            floats: Default::default(),
            bytes: Default::default(),
            doubles: Default::default(),
            ints: Default::default(),
        };
        for (name, view) in file.tensors() {
            let (shape, data) = (view.shape().to_vec(), view.data());
            let four = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).expect("four bytes");
            let eight = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).expect("eight bytes");
            match view.dtype() {
                safetensors::Dtype::F32 => {
                    let data = data.chunks(4).map(|b| f32::from_le_bytes(four(b))).collect();
                    fixture.floats.insert(name, StateTensor { shape, data });
                }
                safetensors::Dtype::I32 => {
                    let data = data.chunks(4).map(|b| i32::from_le_bytes(four(b)).into()).collect();
                    fixture.ints.insert(name, (shape, data));
                }
                safetensors::Dtype::F64 => {
                    let data = data.chunks(8).map(|b| f64::from_le_bytes(eight(b))).collect();
                    fixture.doubles.insert(name, data);
                }
                safetensors::Dtype::I64 => {
                    let data = data.chunks(8).map(|b| i64::from_le_bytes(eight(b))).collect();
                    fixture.ints.insert(name, (shape, data));
                }
                safetensors::Dtype::U8 => {
                    fixture.bytes.insert(name, (shape, data.to_vec()));
                }
                _ => {}
            }
        }
        fixture
    }

    pub fn has(&self, name: &str) -> bool {
        self.floats.contains_key(name)
    }

    pub fn config(&self) -> &Value {
        &self.meta["config"]
    }

    pub fn state_tensor(&self, name: &str) -> &StateTensor {
        self.floats.get(name).unwrap_or_else(|| panic!("the fixture has no tensor `{name}`"))
    }

    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let StateTensor { shape, data } = self.state_tensor(name);
        Tensor::from_data(TensorData::new(data.clone(), shape.clone()), device)
    }

    /// Class indices.
    pub fn labels(&self, name: &str) -> Vec<usize> {
        self.routing(name).1.iter().map(|&label| label as usize).collect()
    }

    /// Rows of routed regions, `[batch, regions, topk]`.
    pub fn routing(&self, name: &str) -> &(Vec<usize>, Vec<i64>) {
        self.ints.get(name).unwrap_or_else(|| panic!("the fixture has no indices `{name}`"))
    }

    pub fn routing_tensor(&self, name: &str, device: &Device) -> Tensor<3, Int> {
        let (shape, data) = self.routing(name);
        Tensor::from_data(TensorData::new(data.clone(), shape.clone()), device)
    }

    /// Tensors whose name starts with `prefix`, without it; counters left out.
    pub fn group(&self, prefix: &str) -> StateDict {
        let entries = self.floats.iter().filter_map(|(name, tensor)| {
            let key = name.strip_prefix(prefix)?;
            (!key.ends_with("num_batches_tracked")).then(|| (key.to_owned(), tensor.clone()))
        });
        entries.collect()
    }
}

/// The values of a tensor, row-major.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_into_vec().expect("float32 data")
}

/// The comfortable bound of the fixtures' README for everything computed forward: the noise of
/// float32 is 1e-7 to 1e-6, the smallest single mistake (LayerNorm eps) starts at 1e-5.
pub const OUTPUT_TOLERANCE: f64 = 1e-5;

/// Largest difference relative to the largest value of the reference.
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    let scale = expected.iter().fold(0.0f64, |max, &x| max.max(f64::from(x).abs())).max(1e-30);
    let difference = found.iter().zip(expected).map(|(&f, &e)| (f64::from(f) - f64::from(e)).abs());
    let error = difference.fold(0.0, f64::max) / scale;
    assert!(error <= tolerance, "{what}: relative error {error:.3e} above {tolerance:.0e}");
}

/// Relative L2 distance, the fixtures' measure for gradients.
pub fn assert_close_l2(what: &str, found: &[f32], expected: &[f32], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference =
        norm(&mut found.iter().zip(expected).map(|(&f, &e)| f64::from(f) - f64::from(e)));
    let error = difference / norm(&mut expected.iter().map(|&e| f64::from(e))).max(1e-30);
    assert!(error <= tolerance, "{what}: relative L2 error {error:.3e} above {tolerance:.0e}");
}

/// Every row must hold the same set of regions. Regions that are all padding are identical, so
/// that they may stand for each other.
pub fn assert_same_routing(
    what: &str,
    found: &biformer::attention::Routing,
    expected: &(Vec<usize>, Vec<i64>),
) {
    let (shape, expected) = expected;
    assert_eq!(found.region_graph.dims().as_slice(), shape, "{what}: shape of the region graph");
    let found_rows = found.region_graph.to_data_as::<i64>().try_into_vec::<i64>().expect("indices");
    let empty = found.grid.padding_mask(&Device::flex()).all_dim(1).into_data();
    let empty: Vec<bool> = empty.try_into_vec().expect("a mask");
    let set = |row: &[i64]| {
        let stand_in = |&region: &i64| if empty[region as usize] { -1 } else { region };
        let mut set: Vec<i64> = row.iter().map(stand_in).collect();
        set.sort_unstable();
        set
    };
    let topk = shape[2];
    for (row, (f, e)) in found_rows.chunks(topk).zip(expected.chunks(topk)).enumerate() {
        assert_eq!(set(f), set(e), "{what}: routed regions of row {row}");
    }
}
