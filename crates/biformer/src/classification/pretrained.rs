//! Weights that are part of the library. `crates/biformer/weights/README.md` says how each was trained
//! and on what terms its data comes.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Result;
use crate::weights::{StateDict, metadata_in, state_dict_in};

/// All of them; the first is the default of the command.
pub const PRETRAINED: [Pretrained; 2] = [
    Pretrained {
        name: "biformer_nano.imagenette",
        about: "ten classes of ImageNet (Imagenette), for non-commercial research",
        top1: 0.847,
        bytes: include_bytes!("../../weights/biformer_nano.imagenette.safetensors"),
    },
    Pretrained {
        name: "biformer_pico.cifar10",
        about: "the ten classes of CIFAR-10, for non-commercial research",
        top1: 0.804,
        bytes: include_bytes!("../../weights/biformer_pico.cifar10.safetensors"),
    },
];

/// A classifier with trained weights, in memory.
#[derive(Clone, Copy)]
pub struct Pretrained {
    /// Model and data set, as timm writes them; to be used in place of a path.
    pub name: &'static str,
    /// What it knows, and on what terms.
    pub about: &'static str,
    /// Accuracy on the validation pictures of its data set.
    pub top1: f64,
    bytes: &'static [u8],
}

impl Pretrained {
    /// The one of that name, if there is one and no file of the same name.
    pub fn named(path: &Path) -> Option<Self> {
        let is_name = |pretrained: &Self| path.as_os_str() == pretrained.name;
        PRETRAINED.into_iter().find(is_name).filter(|_| !path.exists())
    }

    /// Weights and metadata.
    pub(super) fn read(&self) -> Result<(StateDict, BTreeMap<String, String>)> {
        let name = Path::new(self.name);
        Ok((state_dict_in(name, self.bytes)?, metadata_in(name, self.bytes)?))
    }
}
