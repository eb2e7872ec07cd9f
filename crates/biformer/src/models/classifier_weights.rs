//! A backbone for dense tasks that begins with the weights of a classifier.

use super::BiFormer;
use crate::weights::{KeyMismatch, StateDict, load_state_dict, state_dict};

/// What classifiers have behind the backbone.
const CLASSIFIER_PARTS: [&str; 4] = ["norm", "head", "aux_head", "post_network"];

/// What classifiers lack.
const EXTRA_NORMS: &str = "extra_norms";

/// A backbone, and where each of its weights and each of the classifier's went.
#[derive(Debug)]
pub struct InitializedBackbone<B = BiFormer> {
    /// With the weights of the classifier.
    pub backbone: B,
    /// Keys that both have.
    pub loaded: Vec<String>,
    /// Keys of the backbone alone, left as they were: its extra norms, or what a plain ViT has for dense tasks.
    pub fresh: Vec<String>,
    /// Keys of the classifier alone: its last norm and its heads, or class tokens.
    pub left_out: Vec<String>,
}

impl<B> InitializedBackbone<B> {
    /// The same of another type.
    pub(super) fn map<C>(self, wrap: fn(B) -> C) -> InitializedBackbone<C> {
        let Self { backbone, loaded, fresh, left_out } = self;
        InitializedBackbone { backbone: wrap(backbone), loaded, fresh, left_out }
    }
}

impl BiFormer {
    /// The backbone with the weights of a classifier. Norm and heads of the classifier are left out, the
    /// extra norms stay as they are, and there is nothing else that may differ.
    ///
    /// # Errors
    /// What is missing, unexpected or of another shape; then no backbone comes back.
    pub fn with_classifier_weights(
        self,
        mut weights: StateDict,
    ) -> Result<InitializedBackbone, KeyMismatch> {
        let style = self.config.key_style();
        let is_part = |key: &str, parts: &[&str]| {
            key.split('.').next().is_some_and(|first| parts.contains(&first))
        };
        let left_out: Vec<String> =
            weights.extract_if(.., |key, _| is_part(key, &CLASSIFIER_PARTS)).map(|w| w.0).collect();
        let loaded = weights.keys().cloned().collect();
        let mut fresh_weights = state_dict(&self, style);
        fresh_weights.retain(|key, _| is_part(key, &[EXTRA_NORMS]) && !weights.contains_key(key));
        let fresh = fresh_weights.keys().cloned().collect();
        weights.extend(fresh_weights);
        let backbone = load_state_dict(self, weights, style)?;
        Ok(InitializedBackbone { backbone, loaded, fresh, left_out })
    }
}
