//! The differentiable operator on a GPU.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::FloatTensor;

use super::ConvolveOptions;
use crate::gpu::GpuBackend;
use crate::profile::{self, Class};

#[derive(Debug)]
struct DepthwiseConv;

impl<B: GpuBackend> Backward<B, 3> for DepthwiseConv {
    type State = (NodeId, NodeId);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let _span = profile::span(Class::DepthwiseConv);
        let [node_x, node_weight, node_bias] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(ops.state.0);
        let weight: FloatTensor<B> = checkpointer.retrieve_node_output(ops.state.1);
        if node_weight.is_some() || node_bias.is_some() {
            let (grad_weight, grad_bias) =
                B::gpu_depthwise_conv_parameters(x, weight.clone(), grad.clone());
            if let Some(node) = node_weight {
                grads.register::<B>(node.id, grad_weight);
            }
            if let Some(node) = node_bias {
                grads.register::<B>(node.id, grad_bias);
            }
        }
        if let Some(node) = node_x {
            let options = ConvolveOptions { bias: false, residual: false, turned: true };
            let [bias, residual] = [grad.clone(), grad.clone()];
            let gradient = B::gpu_depthwise_conv(grad, weight, bias, residual, options);
            grads.register::<B>(node.id, gradient);
        }
    }
}

/// Without a residual, whose gradient is that of the output.
pub(crate) fn forward<B: GpuBackend, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [x.node(), weight.node(), bias.node()];
    let [input, kernel, summand] = [&x, &weight, &bias].map(|tensor| tensor.primitive().clone());
    let options = ConvolveOptions { bias: true, residual: false, turned: false };
    let output = B::gpu_depthwise_conv(input.clone(), kernel, summand, input, options);
    match DepthwiseConv.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let state = (prep.checkpoint(&x), prep.checkpoint(&weight));
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
