//! A plain ViT for dense tasks that begins with the weights of a classifier, as timm and DeiT give them.

use burn::tensor::{Device, Tensor, TensorData};

use super::{InitializedBackbone, Vit};
use crate::layers::resize_bicubic;
use crate::weights::{KeyMismatch, KeyStyle, StateDict, StateTensor, load_state_dict, state_dict};

/// Tokens that classifiers have beside those of the picture; distilled ones have both.
const CLASS_TOKENS: [&str; 2] = ["cls_token", "dist_token"];

/// What classifiers have behind the last norm.
const HEADS: [&str; 2] = ["head", "head_dist"];

/// What classifiers lack.
const DENSE_PARTS: [&str; 2] = ["propagation", "pyramid"];

impl Vit {
    /// The backbone with the weights of a classifier, whose attention is global: blocks of windows and of
    /// routing take over its projections. Class tokens, their positions and heads are left out; positions are
    /// resized bicubically to the grid; propagation blocks, pyramid and local enhancements stay as they are.
    /// There is nothing else that may differ.
    ///
    /// # Errors
    /// What is missing, unexpected or of another shape; then no backbone comes back.
    pub fn with_classifier_weights(
        self,
        mut weights: StateDict,
    ) -> Result<InitializedBackbone<Self>, KeyMismatch> {
        let begins_with = |key: &str, parts: &[&str]| {
            key.split('.').next().is_some_and(|first| parts.contains(&first))
        };
        let is_left_out = |key: &str| begins_with(key, &CLASS_TOKENS) || begins_with(key, &HEADS);
        let left_out: Vec<String> =
            weights.extract_if(.., |key, _| is_left_out(key)).map(|(key, _)| key).collect();
        let class_tokens = left_out.iter().filter(|key| begins_with(key, &CLASS_TOKENS)).count();
        if let Some(positions) = weights.get_mut("pos_embed") {
            fit_positions(positions, class_tokens, self.config.grid);
        }
        let loaded = weights.keys().cloned().collect();
        let mut fresh_weights = state_dict(&self, KeyStyle::Vit);
        fresh_weights.retain(|key, _| {
            let is_fresh = begins_with(key, &DENSE_PARTS) || key.contains(".attn.lepe.");
            is_fresh && !weights.contains_key(key)
        });
        let fresh = fresh_weights.keys().cloned().collect();
        weights.extend(fresh_weights);
        let backbone = load_state_dict(self, weights, KeyStyle::Vit)?;
        Ok(InitializedBackbone { backbone, loaded, fresh, left_out })
    }
}

/// Positions of class tokens cut off, those of a square map resized to `grid × grid`. What is neither stays
/// as it is: strict loading names it.
fn fit_positions(positions: &mut StateTensor, class_tokens: usize, grid: usize) {
    let [1, tokens, dim] = positions.shape[..] else { return };
    let side = tokens.saturating_sub(class_tokens).isqrt();
    if side == 0 || dim == 0 || side * side + class_tokens != tokens {
        return;
    }
    let mut data = positions.data.split_off(class_tokens * dim);
    if side != grid {
        let data_of_map = TensorData::new(data, [1, side, side, dim]);
        let map = Tensor::<4>::from_data(data_of_map, &Device::default());
        let map = resize_bicubic(map, [grid, grid]); // [1, grid, grid, dim]
        data = map.into_data_as::<f32>().try_into_vec().expect("float32 data");
    }
    *positions = StateTensor::new(vec![1, grid * grid, dim], data);
}
