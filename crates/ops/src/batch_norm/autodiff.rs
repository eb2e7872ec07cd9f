//! The differentiable operator on the CPU. Its gradient counts the moments as what they are,
//! functions of x.

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
struct BatchNorm;

#[derive(Clone, Debug)]
struct State {
    x: NodeId,
    gamma: NodeId,
    moments: FlexTensor,
    epsilon: f64,
}

impl Backward<Flex, 3> for BatchNorm {
    type State = State;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let _span = profile::span(Class::BatchNorm);
        let grad = grads.consume::<Flex>(&ops.node);
        let x: FlexTensor = checkpointer.retrieve_node_output(ops.state.x);
        let gamma: FlexTensor = checkpointer.retrieve_node_output(ops.state.gamma);
        let gradients = cpu::backward(&x, &gamma, &ops.state.moments, &grad, ops.state.epsilon);
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
    moments: FloatTensor<Autodiff<Flex, C>>,
    epsilon: f64,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [x.node(), gamma.node(), beta.node()];
    let moments = moments.into_primitive();
    let output =
        cpu::forward(x.primitive(), gamma.primitive(), beta.primitive(), &moments, epsilon);
    match BatchNorm.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let (x, gamma) = (prep.checkpoint(&x), prep.checkpoint(&gamma));
            prep.finish(State { x, gamma, moments, epsilon }, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
