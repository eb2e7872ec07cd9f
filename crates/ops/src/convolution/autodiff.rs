//! The differentiable operator on the CPU.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;

use super::{Window, cpu};
use crate::Precision;
use crate::linear;
use crate::profile::{self, Class};

#[derive(Debug)]
struct Convolution;

impl Backward<Flex, 3> for Convolution {
    /// Input, weight, window, and what the products of both passes round to.
    type State = (NodeId, NodeId, Window, Precision);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let _span = profile::span(Class::Convolution);
        let [node_x, node_weight, node_bias] = ops.parents;
        let grad = grads.consume::<Flex>(&ops.node);
        let (x, weight, window, precision) = ops.state;
        let x: FlexTensor = checkpointer.retrieve_node_output(x);
        let weight: FlexTensor = checkpointer.retrieve_node_output(weight);
        if let Some(node) = node_x {
            let shape = x.layout().shape().dims();
            grads.register::<Flex>(
                node.id,
                cpu::backward_x(shape, &weight, &grad, window, precision),
            );
        }
        if let Some(node) = node_weight {
            grads.register::<Flex>(node.id, cpu::backward_weight(&x, &grad, window, precision));
        }
        if let Some(node) = node_bias {
            grads.register::<Flex>(node.id, linear::cpu::backward_bias(&grad));
        }
    }
}

pub(crate) fn forward<C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<Flex, C>>,
    weight: FloatTensor<Autodiff<Flex, C>>,
    bias: FloatTensor<Autodiff<Flex, C>>,
    window: Window,
    precision: Precision,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [x.node(), weight.node(), bias.node()];
    let output =
        cpu::forward(x.primitive(), weight.primitive(), bias.primitive(), window, precision);
    match Convolution.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let state = (prep.checkpoint(&x), prep.checkpoint(&weight), window, precision);
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
