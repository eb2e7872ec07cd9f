//! The differentiable operator on a GPU, in float operations of its backend, which fuses them with what stands
//! around. Of a forward pass only x is kept, and not the maps between the steps of the definition.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, FloatDType};

use crate::gpu::GpuBackend;
use crate::profile::{self, Class};

/// x Φ(x), computed in float32.
pub(crate) fn forward<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let dtype = x.dtype();
    let x = cast::<B>(x, DType::F32);
    let output = B::float_mul(x.clone(), probability::<B>(x));
    cast::<B>(output, dtype)
}

/// ∂x = ∂y (Φ(x) + x φ(x)), with φ the density of Φ.
fn backward<B: Backend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    let dtype = x.dtype();
    let [x, grad] = [x, grad].map(|tensor| cast::<B>(tensor, DType::F32));
    let exponent = B::float_mul_scalar(B::float_mul(x.clone(), x.clone()), (-0.5f32).into());
    let factor = std::f32::consts::FRAC_1_SQRT_2 * std::f32::consts::FRAC_2_SQRT_PI / 2.0;
    let density = B::float_mul_scalar(B::float_exp(exponent), factor.into());
    let slope = B::float_add(probability::<B>(x.clone()), B::float_mul(x, density));
    cast::<B>(B::float_mul(grad, slope), dtype)
}

/// Φ(x) = ½ (1 + erf(x / √2))
fn probability<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let argument = B::float_mul_scalar(x, std::f32::consts::FRAC_1_SQRT_2.into());
    let doubled = B::float_add_scalar(B::float_erf(argument), 1.0f32.into());
    B::float_mul_scalar(doubled, 0.5f32.into())
}

fn cast<B: Backend>(x: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if x.dtype() == dtype { x } else { B::float_cast(x, FloatDType::from(dtype)) }
}

#[derive(Debug)]
struct Gelu;

impl<B: GpuBackend> Backward<B, 1> for Gelu {
    type State = NodeId;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let _span = profile::span(Class::Gelu);
        let [node] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(ops.state);
        if let Some(node) = node {
            grads.register::<B>(node.id, backward::<B>(x, grad));
        }
    }
}

pub(crate) fn tracked<B: GpuBackend, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let output = B::gpu_gelu(x.primitive().clone());
    match Gelu.prepare::<C>([x.node()]).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let state = prep.checkpoint(&x);
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
