//! The differentiable operator on a GPU.

use burn::backend::AutodiffBackend;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::RoutedAttentionOptions;
use crate::RegionGrid;
use crate::gpu::GpuBackend;
use crate::profile::{self, Class};

/// A tensor with gradients.
type Tracked<B, C> = FloatTensor<Autodiff<B, C>>;

#[derive(Debug)]
struct RoutedAttention;

/// What a backward pass needs beside its inputs.
#[derive(Clone, Debug)]
struct State<B: GpuBackend, const N: usize> {
    inputs: [NodeId; N],
    region_graph: IntTensor<B>,
    /// Of the attention alone.
    attended: FloatTensor<B>,
    grid: RegionGrid,
    options: RoutedAttentionOptions,
}

impl<B: GpuBackend> Backward<B, 3> for RoutedAttention {
    type State = State<B, 3>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let _span = profile::span(Class::RoutedAttention);
        let State { inputs, region_graph, attended, grid, options } = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let [query, key, value]: [FloatTensor<B>; 3] =
            inputs.map(|id| checkpointer.retrieve_node_output(id));
        let grad_qkv = B::gpu_routed_attention_backward(
            query,
            key,
            value,
            region_graph,
            attended,
            grad,
            grid,
            options,
        );
        for (node, gradient) in ops.parents.into_iter().zip(super::split::<B>(grad_qkv)) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub(crate) fn forward<B: GpuBackend, C: CheckpointStrategy>(
    [query, key, value]: [Tracked<B, C>; 3],
    region_graph: IntTensor<B>,
    grid: RegionGrid,
    options: RoutedAttentionOptions,
) -> Tracked<B, C> {
    let nodes = [query.node(), key.node(), value.node()];
    let [q, k, v] = [&query, &key, &value].map(|x| x.primitive().clone());
    let output = B::gpu_routed_attention(q, k, v, region_graph.clone(), grid, options);
    match RoutedAttention.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let inputs = [prep.checkpoint(&query), prep.checkpoint(&key), prep.checkpoint(&value)];
            let state = State { inputs, region_graph, attended: output.clone(), grid, options };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

#[derive(Debug)]
struct RoutedAttentionLce;

impl<B: GpuBackend> Backward<B, 3> for RoutedAttentionLce {
    /// Inputs are qkv and the weight.
    type State = State<B, 2>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let _span = profile::span(Class::RoutedAttention);
        let State { inputs, region_graph, attended, grid, options } = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let [qkv, weight]: [FloatTensor<B>; 2] =
            inputs.map(|id| checkpointer.retrieve_node_output(id));
        let (grad_qkv, grad_weight, grad_bias) = B::gpu_routed_attention_lce_backward(
            qkv,
            weight,
            region_graph,
            attended,
            grad,
            grid,
            options,
        );
        for (node, gradient) in ops.parents.into_iter().zip([grad_qkv, grad_weight, grad_bias]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

/// The output, and the attention in it, which has no gradient of its own.
pub(crate) fn forward_lce<B: GpuBackend, C: CheckpointStrategy>(
    [qkv, weight, bias]: [Tracked<B, C>; 3],
    region_graph: IntTensor<B>,
    grid: RegionGrid,
    options: RoutedAttentionOptions,
) -> (Tracked<B, C>, Tracked<B, C>) {
    let nodes = [qkv.node(), weight.node(), bias.node()];
    let [map, kernel, summand] = [&qkv, &weight, &bias].map(|tensor| tensor.primitive().clone());
    let (output, attended) =
        B::gpu_routed_attention_lce(map, kernel, summand, region_graph.clone(), grid, options);
    let constant = Autodiff::<B, C>::from_inner(attended.clone());
    let output = match RoutedAttentionLce.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let inputs = [prep.checkpoint(&qkv), prep.checkpoint(&weight)];
            let state = State { inputs, region_graph, attended, grid, options };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    };
    (output, constant)
}
