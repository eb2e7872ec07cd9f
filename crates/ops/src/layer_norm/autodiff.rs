//! The differentiable operator on the CPU. Mean and variance are computed again on the way back:
//! reading a row twice costs less than keeping more than the row.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;

use super::cpu;
use crate::profile::{self, Class};

#[derive(Debug)]
struct LayerNorm;

#[derive(Clone, Debug)]
struct State {
    x: NodeId,
    gamma: NodeId,
    epsilon: f64,
}

impl Backward<Flex, 3> for LayerNorm {
    type State = State;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let _span = profile::span(Class::LayerNorm);
        let grad = grads.consume::<Flex>(&ops.node);
        let x: FlexTensor = checkpointer.retrieve_node_output(ops.state.x);
        let gamma: FlexTensor = checkpointer.retrieve_node_output(ops.state.gamma);
        let gradients = cpu::backward(&x, &gamma, &grad, ops.state.epsilon);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}

pub(crate) fn forward<C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<Flex, C>>,
    gamma: FloatTensor<Autodiff<Flex, C>>,
    beta: FloatTensor<Autodiff<Flex, C>>,
    epsilon: f64,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [x.node(), gamma.node(), beta.node()];
    let output = cpu::forward(x.primitive(), gamma.primitive(), beta.primitive(), epsilon);
    match LayerNorm.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let state = State { x: prep.checkpoint(&x), gamma: prep.checkpoint(&gamma), epsilon };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
