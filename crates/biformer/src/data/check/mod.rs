//! What is wrong with a data set, found before hours of training.
//!
//! Each task has its function: [`check_classification`], [`check_segmentation`], [`check_detection`]. All
//! pictures are decoded. What was found says what training will do about it.

mod annotations;
mod classification;
mod detection;
mod segmentation;

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::fmt::Display;
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;

use rayon::prelude::*;
use serde::Serialize;

pub use classification::check_classification;
pub use detection::check_detection;
pub use segmentation::check_segmentation;

use super::Picture;
use super::image::decode_bytes;

/// What was found in a data set.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DataReport {
    /// The parts that there are.
    pub parts: Vec<CheckedPart>,
    /// What is wrong or worth knowing; what training would refuse comes first.
    pub findings: Vec<Finding>,
}

/// A part of a data set.
#[derive(Debug, Clone, Serialize)]
pub struct CheckedPart {
    /// `train`, `val` and others.
    pub name: String,
    /// Pictures that it lists.
    pub images: usize,
    /// Classes that it lists.
    pub classes: usize,
    /// Things that are marked in them, for detection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<usize>,
}

/// One kind of thing that was found in a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The part; empty if it concerns several.
    pub part: String,
    /// What it is.
    pub what: String,
    /// What training does about it.
    pub consequence: Consequence,
    /// How often.
    pub count: usize,
    /// The first of them.
    pub examples: Vec<String>,
}

/// What training does about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Consequence {
    /// It does not begin, or stops.
    Refused,
    /// It leaves out what is concerned.
    LeftOut,
    /// Nothing.
    Note,
}

impl DataReport {
    /// Whether training would refuse the data set.
    pub fn is_refused(&self) -> bool {
        self.findings.iter().any(|finding| finding.consequence == Consequence::Refused)
    }
}

/// Told the part, and how many of its pictures were looked at, of how many; may break off.
pub type Observe<'a> = dyn FnMut(&str, usize, usize) -> ControlFlow<()> + 'a;

/// Examples of a finding that are kept.
const EXAMPLES: usize = 3;

/// Pictures between two calls of the observer.
const STEP: usize = 256;

/// Width and height of a picture, or why it cannot be read.
type Looked = Result<(u32, u32), String>;

/// A report that is being written.
struct Checking<'a> {
    report: DataReport,
    /// By a hash of its bytes, each picture and the part that it is in.
    seen: HashMap<u64, (String, String)>,
    observe: &'a mut Observe<'a>,
}

impl<'a> Checking<'a> {
    fn new(observe: &'a mut Observe<'a>) -> Self {
        Self { report: DataReport::default(), seen: HashMap::new(), observe }
    }

    /// Adds a finding, if there is anything to tell.
    fn find<T: Display>(
        &mut self,
        part: &str,
        what: impl Into<String>,
        consequence: Consequence,
        examples: impl IntoIterator<Item = T>,
    ) {
        let mut examples = examples.into_iter();
        let shown: Vec<String> = examples.by_ref().take(EXAMPLES).map(|e| e.to_string()).collect();
        if !shown.is_empty() {
            self.report.findings.push(Finding {
                part: part.to_owned(),
                what: what.into(),
                consequence,
                count: shown.len() + examples.count(),
                examples: shown,
            });
        }
    }

    /// Decodes all pictures of a part. Tells of pictures that another part has too.
    fn look_at(&mut self, part: &str, pictures: &[Picture]) -> ControlFlow<(), Vec<Looked>> {
        let look = |picture: &Picture| {
            let bytes = picture.read()?;
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            let image = decode_bytes(&bytes, picture.path())?;
            Ok((image.dimensions(), hasher.finish()))
        };
        let (mut sizes, mut twice) = (Vec::new(), Vec::new());
        for chunk in pictures.chunks(STEP) {
            let looked: Vec<crate::Result<_>> = chunk.par_iter().map(look).collect();
            for (picture, looked) in chunk.iter().zip(looked) {
                if let Ok((_, hash)) = looked {
                    let name = picture.path().display().to_string();
                    match self.seen.entry(hash) {
                        Entry::Occupied(other) if other.get().0 != part => {
                            twice.push(format!("`{name}` is `{}`", other.get().1));
                        }
                        Entry::Occupied(_) => {}
                        Entry::Vacant(place) => {
                            place.insert((part.to_owned(), name));
                        }
                    }
                }
                sizes.push(looked.map(|(size, _)| size).map_err(|error| error.to_string()));
            }
            (self.observe)(part, sizes.len(), pictures.len())?;
        }
        self.find(part, "pictures that are in another part too", Consequence::Note, twice);
        ControlFlow::Continue(sizes)
    }

    fn end(mut self) -> DataReport {
        self.report.findings.sort_by_key(|finding| finding.consequence);
        self.report
    }
}
