//! Linear layers that can be prepared for inference.

use biformer_ops::{LinearFusion, Norm, Precision, Weight};
use burn::module::{Initializer, Module, Param};
use burn::tensor::{DType, Device, Tensor};

use super::LayerNorm;

/// x W + b
#[derive(Module, Debug)]
pub struct Linear {
    /// `[dim_in, dim_out]`
    pub weight: Param<Tensor<2>>,
    /// `[dim_out]`
    pub bias: Option<Param<Tensor<1>>>,
    /// What inference reads in place of `weight`.
    #[module(skip)]
    prepared: Option<Weight>,
}

impl Linear {
    /// Weights from N(0, 0.02²) and a bias of 0, as in the official models.
    ///
    /// The official code truncates the normal at ±2, which is 100 standard deviations and never
    /// cuts.
    pub fn new(dim_in: usize, dim_out: usize, bias: bool, device: &Device) -> Self {
        let normal = Initializer::Normal { mean: 0.0, std: 0.02 };
        Self {
            weight: normal.init([dim_in, dim_out], device),
            bias: bias.then(|| Initializer::Zeros.init([dim_out], device)),
            prepared: None,
        }
    }

    /// # Shapes
    /// - x: `[.., dim_in]`
    /// - output: `[.., dim_out]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.forward_fused(x, LinearFusion::default())
    }

    /// [`Linear::forward`] with what stands around it: norm, GELU, residual.
    pub fn forward_fused<const D: usize>(
        &self,
        x: Tensor<D>,
        fusion: LinearFusion<D>,
    ) -> Tensor<D> {
        let bias = self.bias.as_ref().map(Param::val);
        biformer_ops::linear(x, &self.weight(), bias, fusion)
    }

    /// x and the norm in front of it as [`Linear::forward_fused`] takes them: on the CPU as they are, but where
    /// products off the CPU round numbers, normalised and rounded at once by
    /// [`LayerNorm::forward_for`](super::LayerNorm).
    pub(crate) fn normalize<const D: usize>(
        &self,
        x: Tensor<D>,
        norm: Option<&LayerNorm>,
    ) -> (Tensor<D>, Option<Norm>) {
        match norm {
            Some(norm) if self.product_type() != DType::F32 => (norm.forward_for(x, self), None),
            norm => (x, norm.map(LayerNorm::parameters)),
        }
    }

    /// See [`Weight::product_type`].
    pub(crate) fn product_type(&self) -> DType {
        self.weight().product_type()
    }

    fn weight(&self) -> Weight {
        match &self.prepared {
            Some(weight) => weight.clone(),
            None => Weight::Plain(self.weight.val()),
        }
    }

    /// The layer with its weight in the order in which the device's kernel reads it. The plain
    /// weight is given up: such a layer can neither be trained nor saved.
    pub fn for_inference(self, precision: Precision) -> Self {
        let plain = given_up(&self.weight);
        let weight = Weight::Plain(self.weight.into_value().without_autodiff());
        let prepared = Some(weight.pack_in(precision));
        Self { weight: plain, bias: self.bias, prepared }
    }
}

/// A weight of the same shape that has no numbers: two copies of a model would double its memory.
pub(super) fn given_up<const D: usize>(weight: &Param<Tensor<D>>) -> Param<Tensor<D>> {
    Param::uninitialized(
        weight.id,
        |_, _| panic!("a model prepared for inference has given up its plain weights"),
        weight.lazy_device(),
        false,
        weight.lazy_shape(),
    )
}
