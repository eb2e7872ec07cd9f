//! The differentiable operator on the CPU.

use burn::backend::Flex;
use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use super::{RoiSampling, cpu};
use crate::profile::{self, Class};

#[derive(Debug)]
struct RoiAlign;

impl Backward<Flex, 1> for RoiAlign {
    type State = RoiSampling;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let _span = profile::span(Class::RoiAlign);
        let [node] = ops.parents;
        let grad = grads.consume::<Flex>(&ops.node);
        if let Some(node) = node {
            grads.register::<Flex>(node.id, cpu::backward(&grad, &ops.state));
        }
    }
}

pub(crate) fn forward<C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<Flex, C>>,
    sampling: RoiSampling,
) -> FloatTensor<Autodiff<Flex, C>> {
    let output = cpu::forward(x.primitive(), &sampling);
    match RoiAlign.prepare::<C>([x.node()]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(sampling, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
