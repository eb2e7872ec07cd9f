//! Linear layers with what stands around them: layer norm in front, GELU and residual behind.

pub(crate) mod autodiff;
pub(crate) mod cpu;
mod reference;

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Tensor};

use crate::backend::{OpsBackend, is_cpu_f32, is_fused};
use crate::precision::autocast_precision;
use crate::profile::{self, Class};
use crate::{Precision, gelu, layer_norm};

/// Weight of a linear layer or of a convolution, `[dim_in, dim_out]`.
#[derive(Clone, Debug)]
pub enum Weight {
    /// As it is trained.
    Plain(Tensor<2>),
    /// In the order in which the CPU's kernel reads it; see [`Weight::pack`].
    Packed(PackedWeight),
}

/// See [`Weight::pack`].
#[derive(Clone, Debug)]
pub struct PackedWeight {
    /// See [`cpu::panels`]; their type is that of the products.
    pub(crate) panels: Tensor<3>,
    /// `[dim_in, dim_out]`
    dims: [usize; 2],
}

impl Weight {
    /// The same weight, ready for many forward passes; on the CPU a plain weight is packed at
    /// every pass. It has no gradient.
    pub fn pack(self) -> Self {
        self.pack_in(Precision::F32)
    }

    /// [`Weight::pack`] for products of another precision.
    ///
    /// # Panics
    /// If [`Precision::check`] gives an error.
    pub fn pack_in(self, precision: Precision) -> Self {
        let check = |device| precision.check(device).unwrap_or_else(|reason| panic!("{reason}"));
        match self {
            Self::Plain(weight) if is_cpu_f32(&weight) => {
                check(&weight.device());
                let dims = weight.dims();
                let weight = weight.without_autodiff().into_dispatch();
                let panels = Tensor::from_dispatch(Dispatch::pack_weight(weight, precision));
                Self::Packed(PackedWeight { panels, dims })
            }
            Self::Plain(weight) if precision != Precision::F32 => {
                check(&weight.device());
                Self::Plain(weight.cast(precision.dtype()))
            }
            weight => weight,
        }
    }

    /// To what products off the CPU round: [`autocast`](crate::autocast) or [`Weight::pack_in`] has said it. On
    /// the CPU maps are float32, and their products round by themselves.
    ///
    /// # Panics
    /// If [`Precision::check`] gives an error.
    pub fn product_type(&self) -> DType {
        match self {
            Self::Plain(weight) if !is_cpu_f32(weight) => {
                product_type(weight.dtype(), &weight.device())
            }
            _ => DType::F32,
        }
    }

    /// `[dim_in, dim_out]`
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Plain(weight) => weight.dims(),
            Self::Packed(PackedWeight { dims, .. }) => *dims,
        }
    }
}

/// What happens beside the product, in this order.
#[derive(Clone, Debug)]
pub struct LinearFusion<const D: usize> {
    /// Layer norm of the input.
    pub norm: Option<Norm>,
    /// GELU of the output.
    pub gelu: bool,
    /// Added to the output.
    pub residual: Option<Tensor<D>>,
}

impl<const D: usize> Default for LinearFusion<D> {
    fn default() -> Self {
        Self { norm: None, gelu: false, residual: None }
    }
}

/// Parameters of a layer norm over the last axis.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Factor, `[channels]`
    pub gamma: Tensor<1>,
    /// Summand, `[channels]`
    pub beta: Tensor<1>,
    /// Added to the variance.
    pub epsilon: f64,
}

/// x W + b, with what [`LinearFusion`] adds.
///
/// On the CPU and without gradients it is one kernel: rows are normalised on their way into the
/// product, GELU and residual happen before a number is written. With gradients,
/// [`autocast`](crate::autocast) says what the product rounds to.
///
/// # Shapes
/// - x: `[.., dim_in]`
/// - weight: `[dim_in, dim_out]`
/// - bias: `[dim_out]`
/// - output, residual: `[.., dim_out]`, of the type of the residual, else of that of x
///
/// # Panics
/// If sizes differ, or a packed weight meets tensors with gradients.
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: &Weight,
    bias: Option<Tensor<1>>,
    fusion: LinearFusion<D>,
) -> Tensor<D> {
    let _span = profile::span(Class::Linear);
    let [dim_in, dim_out] = weight.dims();
    assert_eq!(
        x.dims()[D - 1],
        dim_in,
        "linear: channels of x, and of a weight {dim_in} × {dim_out}"
    );
    if let Some(bias) = &bias {
        assert_eq!(bias.dims(), [dim_out], "linear: bias of a weight {dim_in} × {dim_out}");
    }
    if let Some(Norm { gamma, beta, .. }) = &fusion.norm {
        let dims = [gamma.dims(), beta.dims()];
        assert_eq!(dims, [[dim_in]; 2], "linear: norm in front of a weight {dim_in} × {dim_out}");
    }
    if let Some(residual) = &fusion.residual {
        let mut output = x.dims();
        output[D - 1] = dim_out;
        assert_eq!(residual.dims(), output, "linear: residual");
    }
    if !is_fused(&x) || is_tracked(weight) {
        return step_by_step(x, weight, bias, fusion);
    }
    let Weight::Packed(PackedWeight { panels, .. }) = weight.clone().pack() else {
        unreachable!("weights on the CPU can be packed");
    };
    let options = LinearOptions {
        dim_out,
        bias: bias.is_some(),
        norm: fusion.norm.as_ref().map(|norm| norm.epsilon),
        gelu: fusion.gelu,
        residual: fusion.residual.is_some(),
    };
    let x = x.into_dispatch();
    let bias = bias.map_or_else(|| x.clone(), Tensor::into_dispatch);
    let residual = fusion.residual.map_or_else(|| x.clone(), Tensor::into_dispatch);
    let (gamma, beta) = match fusion.norm {
        Some(norm) => (norm.gamma.into_dispatch(), norm.beta.into_dispatch()),
        None => (x.clone(), x.clone()),
    };
    let panels = panels.into_dispatch();
    Tensor::from_dispatch(Dispatch::fused_linear(x, panels, bias, gamma, beta, residual, options))
}

/// What [`OpsBackend::fused_linear`] needs to know beside its tensors.
#[derive(Clone, Copy, Debug)]
pub struct LinearOptions {
    /// Columns of the weight.
    pub dim_out: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// Epsilon of the layer norm, if there is one.
    pub norm: Option<f64>,
    /// Whether a GELU follows.
    pub gelu: bool,
    /// Whether there is a residual.
    pub residual: bool,
}

/// The definition of the fused kernel: one operator after the other, each with its gradient.
fn step_by_step<const D: usize>(
    x: Tensor<D>,
    weight: &Weight,
    bias: Option<Tensor<1>>,
    fusion: LinearFusion<D>,
) -> Tensor<D> {
    let Weight::Plain(weight) = weight else {
        panic!("linear: a packed weight has no gradient");
    };
    let x = match fusion.norm {
        Some(Norm { gamma, beta, epsilon }) => layer_norm(x, gamma, beta, epsilon),
        None => x,
    };
    let x = product(x, weight.clone(), bias);
    let x = if fusion.gelu { gelu(x) } else { x };
    match fusion.residual {
        Some(residual) => {
            let dtype = residual.dtype();
            residual + x.cast(dtype)
        }
        None => x,
    }
}

/// x W + b
fn product<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    let device = x.device();
    if !is_cpu_f32(&x) {
        let (of, dtype) = (x.dtype(), product_type(weight.dtype(), &device));
        if bias.as_ref().is_none_or(|bias| [of, bias.dtype()] == [dtype; 2]) {
            return reference::linear(x.cast(dtype), weight.cast(dtype), bias).cast(of);
        }
        let product = reference::linear(x.cast(dtype), weight.cast(dtype), None);
        let sum = product.cast(DType::F32) + bias.expect("a bias").cast(DType::F32).unsqueeze();
        return sum.cast(of);
    }
    let [_, dim_out] = weight.dims();
    let bias = bias.unwrap_or_else(|| Tensor::zeros([dim_out], &weight.device().inner()));
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    let precision = autocast_precision(&device);
    Tensor::from_dispatch(Dispatch::differentiable_linear(x, weight, bias, precision))
}

/// See [`Weight::product_type`].
pub(crate) fn product_type(weight: DType, device: &Device) -> DType {
    match autocast_precision(device) {
        Precision::F32 => weight,
        _ if weight != DType::F32 => weight,
        precision => precision.dtype(),
    }
}

/// [`linear`] by the definition, on any device.
pub fn linear_reference<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    reference::linear(x, weight, bias)
}

pub(crate) fn is_tracked(weight: &Weight) -> bool {
    matches!(weight, Weight::Plain(weight) if weight.is_autodiff())
}
