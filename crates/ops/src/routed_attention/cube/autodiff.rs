//! The differentiable operator on a GPU.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{AutodiffBackend, TensorMetadata};
use burn::tensor::Slice;

use super::RoutedAttentionOptions;
use crate::RegionGrid;
use crate::gpu::GpuBackend;
use crate::profile::{self, Class};

/// A tensor with gradients.
type Tracked<B, C> = FloatTensor<Autodiff<B, C>>;

#[derive(Debug)]
struct RoutedAttention;

/// What the backward pass needs beside query, key and value.
#[derive(Clone, Debug)]
struct State<B: GpuBackend> {
    inputs: [NodeId; 3],
    region_graph: IntTensor<B>,
    output: FloatTensor<B>,
    grid: RegionGrid,
    options: RoutedAttentionOptions,
}

impl<B: GpuBackend> Backward<B, 3> for RoutedAttention {
    type State = State<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let _span = profile::span(Class::RoutedAttention);
        let State { inputs, region_graph, output, grid, options } = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let [query, key, value]: [FloatTensor<B>; 3] =
            inputs.map(|id| checkpointer.retrieve_node_output(id));
        let grad_qkv = B::gpu_routed_attention_backward(
            query,
            key,
            value,
            region_graph,
            output,
            grad,
            grid,
            options,
        );
        let [batch, height, width, channels] = grad_qkv.shape().dims();
        let all = [batch, height, width].map(|size| Slice::from(0..size));
        for (i, node) in ops.parents.into_iter().enumerate() {
            if let Some(node) = node {
                let part = Slice::from(i * (channels / 3)..(i + 1) * (channels / 3));
                let gradient = B::float_slice(grad_qkv.clone(), &[&all[..], &[part]].concat());
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
            let state = State { inputs, region_graph, output: output.clone(), grid, options };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

#[derive(Debug)]
struct RoutedAttentionLce;

/// What the backward pass needs beside qkv and the weight.
#[derive(Clone, Debug)]
struct LceState<B: GpuBackend> {
    inputs: [NodeId; 2],
    region_graph: IntTensor<B>,
    attended: FloatTensor<B>,
    grid: RegionGrid,
    options: RoutedAttentionOptions,
}

impl<B: GpuBackend> Backward<B, 3> for RoutedAttentionLce {
    type State = LceState<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let _span = profile::span(Class::RoutedAttention);
        let LceState { inputs, region_graph, attended, grid, options } = ops.state;
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
            let state = LceState { inputs, region_graph, attended, grid, options };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    };
    (output, constant)
}
