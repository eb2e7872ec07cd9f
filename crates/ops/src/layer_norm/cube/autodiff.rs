//! The differentiable operator on a GPU.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;

use crate::gpu::GpuBackend;
use crate::profile::{self, Class};

#[derive(Debug)]
struct LayerNorm;

impl<B: GpuBackend> Backward<B, 3> for LayerNorm {
    /// Input, gamma and epsilon.
    type State = (NodeId, NodeId, f64);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let _span = profile::span(Class::LayerNorm);
        let (x, gamma, epsilon) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
        let gamma: FloatTensor<B> = checkpointer.retrieve_node_output(gamma);
        let (grad_x, grad_gamma, grad_beta) = B::gpu_layer_norm_backward(x, gamma, grad, epsilon);
        for (node, gradient) in ops.parents.into_iter().zip([grad_x, grad_gamma, grad_beta]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub(crate) fn forward<B: GpuBackend, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    gamma: FloatTensor<Autodiff<B, C>>,
    beta: FloatTensor<Autodiff<B, C>>,
    epsilon: f64,
    dtype: DType,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [x.node(), gamma.node(), beta.node()];
    let [input, factor, summand] = [&x, &gamma, &beta].map(|tensor| tensor.primitive().clone());
    let output = B::gpu_layer_norm(input, factor, summand, epsilon, dtype);
    match LayerNorm.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let state = (prep.checkpoint(&x), prep.checkpoint(&gamma), epsilon);
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
