//! AdamW over a module, with the no-decay group of timm and a state that is saved by name.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{LayerDecay, NamedGradients};
use crate::weights::{KeyStyle, Names, StateDict, StateTensor};

/// Options of [`AdamW`]; the defaults are those of the paper (§4.1).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWOptions {
    /// Decay of the first and of the second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay of tensors of two and more axes.
    pub weight_decay: f64,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.05 }
    }
}

/// AdamW (Loshchilov and Hutter, 2019) over all parameters of a module.
///
/// Burn's own keeps its betas in float32, which moves the second moment by 1e-5 of itself, and
/// keys its state by ids that only Burn's own records carry.
pub struct AdamW {
    options: AdamWOptions,
    style: KeyStyle,
    layer_decay: Option<LayerDecay>,
    /// By official key; every parameter is seen as one flat vector.
    moments: BTreeMap<String, Moments>,
}

struct Moments {
    step: i32,
    exp_avg: Tensor<1>,
    exp_avg_sq: Tensor<1>,
}

/// Whether timm would decay this parameter: not norms, biases and other vectors, nor the positions of a plain
/// ViT, nor tables of relative positions. (The position encoding of BiFormer is a convolution, `pos_embed.weight`.)
pub fn is_decayed(key: &str, shape: &[usize]) -> bool {
    let positions = ["pos_embed", "relative_position_bias_table", "rpe_table"];
    let is_position = positions.iter().any(|name| key.ends_with(name));
    shape.len() > 1 && !key.ends_with(".bias") && !is_position
}

impl AdamW {
    /// An optimizer without moments yet; `style` names the parameters.
    pub fn new(options: &AdamWOptions, style: KeyStyle) -> Self {
        Self { options: *options, style, layer_decay: None, moments: BTreeMap::new() }
    }

    /// The same with another learning rate for each layer.
    pub fn with_layer_decay(self, layer_decay: Option<LayerDecay>) -> Self {
        Self { layer_decay, ..self }
    }

    /// One step of every parameter that has a gradient.
    pub fn step<M: Module>(&mut self, lr: f64, module: M, gradients: NamedGradients) -> M {
        module.map(&mut Step { names: Names::new(self.style), optimizer: self, gradients, lr })
    }

    /// The moments as `exp_avg.<key>`, `exp_avg_sq.<key>` and `step.<key>`.
    pub fn state_dict(&self) -> StateDict {
        let vector = |tensor: &Tensor<1>| StateTensor {
            shape: tensor.dims().to_vec(),
            data: tensor.to_data_as::<f32>().try_into_vec().expect("the data is float32"),
        };
        let entries = self.moments.iter().flat_map(|(key, moments)| {
            let step = StateTensor { shape: vec![1], data: vec![moments.step as f32] };
            [
                (format!("exp_avg.{key}"), vector(&moments.exp_avg)),
                (format!("exp_avg_sq.{key}"), vector(&moments.exp_avg_sq)),
                (format!("step.{key}"), step),
            ]
        });
        entries.collect()
    }

    /// Takes over what [`AdamW::state_dict`] gave.
    ///
    /// # Errors
    /// The key of a moment that is missing or of another length than its partner.
    pub fn load_state_dict(&mut self, mut dict: StateDict, device: &Device) -> Result<(), String> {
        let keys: Vec<String> =
            dict.keys().filter_map(|key| key.strip_prefix("exp_avg.")).map(str::to_owned).collect();
        for key in keys {
            let mut take = |kind: &str| {
                let name = format!("{kind}.{key}");
                dict.remove(&name).ok_or_else(|| format!("`{name}` is missing"))
            };
            let (exp_avg, exp_avg_sq) = (take("exp_avg")?, take("exp_avg_sq")?);
            let step = take("step")?.data.first().copied().unwrap_or_default();
            if exp_avg.data.len() != exp_avg_sq.data.len() {
                return Err(format!("`exp_avg.{key}` and `exp_avg_sq.{key}` differ in length"));
            }
            let vector = |StateTensor { data, .. }| {
                let shape = [data.len()];
                Tensor::<1>::from_data(TensorData::new(data, shape), device)
            };
            let (exp_avg, exp_avg_sq) = (vector(exp_avg), vector(exp_avg_sq));
            self.moments.insert(key, Moments { step: step as i32, exp_avg, exp_avg_sq });
        }
        Ok(())
    }

    /// The new value of one parameter.
    fn update(
        &mut self,
        key: String,
        value: Tensor<1>,
        gradient: Tensor<1>,
        lr: f64,
        decay: f64,
    ) -> Tensor<1> {
        let AdamWOptions { betas: [beta1, beta2], eps, .. } = self.options;
        let moments = match self.moments.remove(&key) {
            Some(Moments { step, exp_avg, exp_avg_sq }) => Moments {
                step: step + 1,
                exp_avg: exp_avg * beta1 + gradient.clone() * (1.0 - beta1),
                exp_avg_sq: exp_avg_sq * beta2 + gradient.square() * (1.0 - beta2),
            },
            None => Moments {
                step: 1,
                exp_avg: gradient.clone() * (1.0 - beta1),
                exp_avg_sq: gradient.square() * (1.0 - beta2),
            },
        };
        let (correction1, correction2) =
            (1.0 - beta1.powi(moments.step), 1.0 - beta2.powi(moments.step));
        let denominator = moments.exp_avg_sq.clone().sqrt() / correction2.sqrt() + eps;
        let step = moments.exp_avg.clone() / denominator * (lr / correction1);
        self.moments.insert(key, moments);
        value * (1.0 - lr * decay) - step
    }
}

struct Step<'a> {
    names: Names,
    optimizer: &'a mut AdamW,
    gradients: NamedGradients,
    lr: f64,
}

impl ModuleMapper for Step<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.names.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.names.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let key = self.names.key();
        let Some(gradient) = self.gradients.remove(&key) else {
            return param;
        };
        let lr = self.lr * self.optimizer.layer_decay.map_or(1.0, |layers| layers.scale(&key));
        param.map(|value| {
            let shape = value.dims();
            let decay = match is_decayed(&key, &shape) {
                true => self.optimizer.options.weight_decay,
                false => 0.0,
            };
            let value = value.inner().flatten(0, D - 1);
            let value = self.optimizer.update(key, value, gradient, lr, decay);
            Tensor::from_inner(value.reshape(shape)).require_grad()
        })
    }
}
