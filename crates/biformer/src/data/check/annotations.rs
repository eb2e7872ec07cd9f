//! What is wrong with where an annotation says that its pixels are.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::super::detection::Rle;

/// A segmentation in a file, whatever it is; its numbers are not kept.
pub(super) enum SegmentationShape {
    /// How many polygons give no mask, and how many there are.
    Polygons { useless: usize, of: usize },
    /// A mask, of this height and width.
    Mask([u32; 2]),
    /// Neither of them, and why.
    Wrong(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Loose {
    Polygons(Vec<Vec<f64>>),
    Other(Value),
}

impl<'de> Deserialize<'de> for SegmentationShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Loose::deserialize(deserializer)? {
            Loose::Polygons(parts) => {
                let is_useless = |part: &&Vec<f64>| part.len() < 6 || part.len() % 2 == 1;
                Self::Polygons { useless: parts.iter().filter(is_useless).count(), of: parts.len() }
            }
            Loose::Other(value @ Value::Object(_)) => match serde_json::from_value::<Rle>(value) {
                Ok(mask) => Self::Mask(mask.size()),
                Err(error) => Self::Wrong(error.to_string()),
            },
            Loose::Other(_) => Self::Wrong("neither polygons nor runs".to_owned()),
        })
    }
}
