//! A sum over processes, with its gradient.

use std::fmt;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex};
use burn::tensor::Tensor;

use crate::backend::{OpsBackend, is_cpu_f32};
use crate::flex::{contiguous, tensor, values};

type Sum = dyn Fn(&mut [f32]) + Send + Sync;

/// Adds up numbers over all processes, in place: each has the sums afterwards.
#[derive(Clone)]
pub struct Reducer(Arc<Sum>);

impl Reducer {
    /// A reducer that calls `sum`, which waits until all processes have called theirs.
    pub fn new(sum: impl Fn(&mut [f32]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sum))
    }

    fn sum(&self, x: &FlexTensor) -> FlexTensor {
        let mut numbers = values(&contiguous(x)).to_vec();
        (self.0)(&mut numbers);
        tensor(numbers, x.layout().shape().as_slice())
    }
}

impl fmt::Debug for Reducer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Reducer")
    }
}

/// The sum of `x` over all processes.
///
/// The gradient is that of the sum of the losses of all processes: backward adds up over
/// processes too. So all of them must go backward, through their sums in the same order.
///
/// # Shapes
/// - x: any, the same in all processes
/// - output: like `x`
///
/// # Panics
/// If `x` is not of float32 on the CPU.
pub fn all_reduce<const D: usize>(x: Tensor<D>, reducer: &Reducer) -> Tensor<D> {
    assert!(is_cpu_f32(&x), "all_reduce takes float32 on the CPU, got {:?}", x.dtype());
    Tensor::from_dispatch(Dispatch::all_reduce(x.into_dispatch(), reducer.clone()))
}

/// Without gradients.
pub(crate) fn forward(x: &FlexTensor, reducer: &Reducer) -> FlexTensor {
    reducer.sum(x)
}

/// With gradients.
pub(crate) fn differentiable<C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<Flex, C>>,
    reducer: Reducer,
) -> FloatTensor<Autodiff<Flex, C>> {
    let output = reducer.sum(x.primitive());
    match AllReduce.prepare::<C>([x.node()]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(reducer, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

#[derive(Debug)]
struct AllReduce;

impl Backward<Flex, 1> for AllReduce {
    type State = Reducer;

    fn backward(self, ops: Ops<Reducer, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node] = ops.parents;
        // x is in the outputs of all processes: its gradient is the sum of theirs.
        let grad = ops.state.sum(&grads.consume::<Flex>(&ops.node));
        if let Some(node) = node {
            grads.register::<Flex>(node.id, grad);
        }
    }
}
