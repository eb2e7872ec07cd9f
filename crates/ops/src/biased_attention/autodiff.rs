//! The differentiable operator on the CPU.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;

use super::cpu::{self, Options};

#[derive(Debug)]
struct BiasedAttention;

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct State {
    inputs: [NodeId; 4],
    options: Options,
}

impl Backward<Flex, 4> for BiasedAttention {
    type State = State;

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let State { inputs, options } = ops.state;
        let grad = grads.consume::<Flex>(&ops.node);
        let inputs: [FlexTensor; 4] = inputs.map(|id| checkpointer.retrieve_node_output(id));
        let gradients = cpu::backward(inputs.each_ref(), &grad, &options);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}

/// The tensors are query, key, value and bias.
pub(crate) fn forward<C: CheckpointStrategy>(
    inputs: [FloatTensor<Autodiff<Flex, C>>; 4],
    options: Options,
) -> FloatTensor<Autodiff<Flex, C>> {
    let output = cpu::forward(inputs.each_ref().map(|x| x.primitive()), &options);
    let nodes = inputs.each_ref().map(|x| x.node());
    match BiasedAttention.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let inputs = inputs.each_ref().map(|x| prep.checkpoint(x));
            prep.finish(State { inputs, options }, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
