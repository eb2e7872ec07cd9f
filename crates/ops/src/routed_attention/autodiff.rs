//! The differentiable operator on the CPU.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;

use super::cpu::{self, Routing};

#[derive(Debug)]
struct RoutedAttention;

/// What the backward pass needs beside query, key and value.
#[derive(Clone, Debug)]
struct State {
    inputs: [NodeId; 3],
    routing: Arc<Routing>,
    output: FlexTensor,
    log_sums: Arc<Vec<f32>>,
}

impl Backward<Flex, 3> for RoutedAttention {
    type State = State;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let State { inputs, routing, output, log_sums } = ops.state;
        let grad = grads.consume::<Flex>(&ops.node);
        let inputs: [FlexTensor; 3] = inputs.map(|id| checkpointer.retrieve_node_output(id));
        let gradients = cpu::backward(&inputs, &routing, &output, &log_sums, &grad);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}

pub(crate) fn forward<C: CheckpointStrategy>(
    query: FloatTensor<Autodiff<Flex, C>>,
    key: FloatTensor<Autodiff<Flex, C>>,
    value: FloatTensor<Autodiff<Flex, C>>,
    routing: Routing,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [query.node(), key.node(), value.node()];
    let [q, k, v] = [&query, &key, &value].map(|x| x.primitive());
    match RoutedAttention.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let (output, log_sums) = cpu::forward_with_sums(q, k, v, &routing, true);
            let state = State {
                inputs: [prep.checkpoint(&query), prep.checkpoint(&key), prep.checkpoint(&value)],
                routing: Arc::new(routing),
                output: output.clone(),
                log_sums: Arc::new(log_sums),
            };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(cpu::forward(q, k, v, &routing)),
    }
}
