//! Routed attention with local context enhancement: all of Eq. 7, with one gradient for Q, K and V
//! together.
//!
//! As slices of one map, Q, K and V would each get a gradient of the size of all three, most of it
//! zeros, and Burn would add them up.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use rayon::prelude::*;

use super::cpu::{self, Routing};
use crate::depthwise_conv;
use crate::flex::{contiguous, tensor, values};
use crate::profile::{self, Class};

/// attention(Q, Kᵍ, Vᵍ) + LCE(V) from `[batch, height, width, 3 * channels]`.
pub(crate) fn forward(
    qkv: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    routing: &Routing,
) -> FlexTensor {
    let [query, key, value] = parts(qkv);
    let attended = cpu::forward(&query, &key, &value, routing);
    depthwise_conv::cpu::forward(value, weight, bias, Some(attended))
}

#[derive(Debug)]
struct RoutedAttentionLce;

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct State {
    qkv: NodeId,
    weight: NodeId,
    routing: Arc<Routing>,
    attended: FlexTensor,
    log_sums: Arc<Vec<f32>>,
}

impl Backward<Flex, 3> for RoutedAttentionLce {
    type State = State;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let _span = profile::span(Class::RoutedAttention);
        let [node_qkv, node_weight, node_bias] = ops.parents;
        let grad = contiguous(&grads.consume::<Flex>(&ops.node));
        let State { qkv, weight, routing, attended, log_sums } = ops.state;
        let qkv: FlexTensor = checkpointer.retrieve_node_output(qkv);
        let weight: FlexTensor = checkpointer.retrieve_node_output(weight);
        let inputs = parts(&qkv);
        if node_weight.is_some() || node_bias.is_some() {
            let (grad_weight, grad_bias) =
                depthwise_conv::cpu::backward_parameters(&inputs[2], &weight, &grad);
            if let Some(node) = node_weight {
                grads.register::<Flex>(node.id, grad_weight);
            }
            if let Some(node) = node_bias {
                grads.register::<Flex>(node.id, grad_bias);
            }
        }
        if let Some(node) = node_qkv {
            let attention = cpu::backward(&inputs, &routing, &attended, &log_sums, &grad);
            let lce = depthwise_conv::cpu::backward_x(&weight, &grad);
            grads.register::<Flex>(node.id, join(attention, &lce));
        }
    }
}

pub(crate) fn differentiable<C: CheckpointStrategy>(
    qkv: FloatTensor<Autodiff<Flex, C>>,
    weight: FloatTensor<Autodiff<Flex, C>>,
    bias: FloatTensor<Autodiff<Flex, C>>,
    routing: Routing,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [qkv.node(), weight.node(), bias.node()];
    match RoutedAttentionLce.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let [query, key, value] = parts(qkv.primitive());
            let (attended, log_sums) = cpu::forward_with_sums(&query, &key, &value, &routing, true);
            let residual = Some(attended.clone());
            let (w, b) = (weight.primitive(), bias.primitive());
            let output = depthwise_conv::cpu::forward(value, w, b, residual);
            let state = State {
                qkv: prep.checkpoint(&qkv),
                weight: prep.checkpoint(&weight),
                routing: Arc::new(routing),
                attended,
                log_sums: Arc::new(log_sums),
            };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => {
            let output = forward(qkv.primitive(), weight.primitive(), bias.primitive(), &routing);
            prep.finish(output)
        }
    }
}

/// Q, K and V where they lie.
fn parts(qkv: &FlexTensor) -> [FlexTensor; 3] {
    let [.., channels]: [usize; 4] = qkv.layout().shape().dims();
    [0, 1, 2].map(|i| qkv.narrow(3, i * (channels / 3), channels / 3))
}

/// The gradients of Q, K and V side by side, with that of LCE added to V.
fn join([query, key, value]: [FlexTensor; 3], lce: &FlexTensor) -> FlexTensor {
    let [batch, height, width, channels] = query.layout().shape().dims();
    let mut output = vec![0.0; batch * height * width * 3 * channels];
    let row = width * channels;
    let rows = output.par_chunks_mut((3 * row).max(1)).enumerate();
    let [query, key, value, lce] = [&query, &key, &value, lce].map(values);
    rows.for_each(|(i, output)| {
        for (j, token) in output.chunks_exact_mut(3 * channels).enumerate() {
            let at = i * row + j * channels..i * row + (j + 1) * channels;
            token[..channels].copy_from_slice(&query[at.clone()]);
            token[channels..2 * channels].copy_from_slice(&key[at.clone()]);
            let sums = token[2 * channels..].iter_mut().zip(&value[at.clone()]).zip(&lce[at]);
            sums.for_each(|((sum, value), lce)| *sum = value + lce);
        }
    });
    tensor(output, [batch, height, width, 3 * channels])
}
