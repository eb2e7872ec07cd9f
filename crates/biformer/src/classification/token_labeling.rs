//! The loss of token labeling (Jiang et al., *All Tokens Matter*, 2021, §3.1): of the class, and of each
//! token, with MixToken after the stem.

use burn::tensor::Tensor;

use super::{ImageClassifier, soft_target_cross_entropy};
use crate::data::MixToken;

/// What the tokens of a batch are to say.
#[derive(Clone, Debug)]
pub struct TokenTargets {
    /// `[batch, rows, columns, num_classes]`, of the pictures as they were before they are mixed
    pub targets: Tensor<4>,
    /// The box of tokens to be mixed, if any.
    pub mix: Option<MixToken>,
    /// Weight of the loss of the class.
    pub cls_weight: f64,
    /// Weight of the loss of the tokens.
    pub dense_weight: f64,
}

/// cls_weight · loss of the class + dense_weight · mean loss of the tokens, and the class logits.
///
/// The box is swapped in the map behind the stem, and swapped back in the logits of the tokens, so that
/// each of them meets the target of its own picture.
///
/// # Shapes
/// - images: `[batch, 3, height, width]`
/// - targets: of the classes, mixed already, `[batch, num_classes]`
/// - outputs: `[1]`, `[batch, num_classes]`
///
/// # Panics
/// If the grid of the token targets is not that of C5.
pub fn token_label_loss(
    model: &ImageClassifier,
    images: Tensor<4>,
    targets: Tensor<2>,
    tokens: &TokenTargets,
) -> (Tensor<1>, Tensor<2>) {
    let [batch, rows, columns, num_classes] = tokens.targets.dims();
    let mix = |x: Tensor<4>| match &tokens.mix {
        Some(mix) => swap_box(x, mix, [rows, columns]),
        None => x,
    };
    let [.., c5] = model.backbone.forward_stages_with(images, mix);
    let (class_logits, token_logits) = model.classify_tokens(c5);
    let found = token_logits.dims();
    let expected = [batch, rows, columns, num_classes];
    assert_eq!(found, expected, "token_label_loss: logits of the tokens against targets");
    let of_tokens = |x: Tensor<4>| x.reshape([batch * rows * columns, num_classes]);
    let token_loss = soft_target_cross_entropy(
        of_tokens(mix(token_logits)), // the second swap undoes the first
        of_tokens(tokens.targets.clone()),
    );
    let class_loss = soft_target_cross_entropy(class_logits.clone(), targets);
    (class_loss * tokens.cls_weight + token_loss * tokens.dense_weight, class_logits)
}

/// The box of each picture from the picture at the other end of the batch. `grid` is what the box
/// is measured in; the map is a whole number of times as large.
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - output: like `x`
pub fn swap_box(x: Tensor<4>, mix: &MixToken, [rows, columns]: [usize; 2]) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    if mix.rows.is_empty() || mix.columns.is_empty() {
        return x;
    }
    let (tall, wide) = (height / rows, width / columns);
    let part = [
        0..batch,
        mix.rows.start * tall..mix.rows.end * tall,
        mix.columns.start * wide..mix.columns.end * wide,
        0..channels,
    ];
    let other = x.clone().flip([0]).slice(part.clone());
    x.slice_assign(part, other)
}
