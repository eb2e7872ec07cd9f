//! The exponential moving average of a model, weights and running statistics alike, as timm's
//! `ModelEma` keeps it.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::weights::{KeyStyle, Names};

/// An average of a module over the steps of its training.
#[derive(Clone, Debug)]
pub struct ModelEma<M> {
    /// The average so far, without gradients.
    pub module: M,
    style: KeyStyle,
}

impl<M: Module> ModelEma<M> {
    /// An average that begins with `module`, as [`Module::valid`] gives it.
    pub fn new(module: M, style: KeyStyle) -> Self {
        Self { module, style }
    }

    /// average ← decay · average + (1 − decay) · `module`, which must come from [`Module::valid`]
    /// too.
    pub fn update(&mut self, module: &M, decay: f64) {
        let mut read = Read { names: Names::new(self.style), values: BTreeMap::new() };
        module.visit(&mut read);
        let mut mix = Mix { names: Names::new(self.style), values: read.values, decay };
        self.module = self.module.clone().map(&mut mix);
    }
}

/// The decay of step `step`, counted from 0. With warm-up it rises from 0 to `decay`, as in timm's
/// `ModelEmaV3`, so that the average of a short run is not made of its first weights.
pub fn ema_decay(decay: f64, warmup: bool, step: usize) -> f64 {
    const POWER: f64 = 2.0 / 3.0;
    if warmup { decay.min(1.0 - (1.0 + step as f64).powf(-POWER)) } else { decay }
}

struct Read {
    names: Names,
    values: BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Read {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.names.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.names.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.values.insert(self.names.key(), param.val().flatten(0, D - 1));
    }
}

struct Mix {
    names: Names,
    values: BTreeMap<String, Tensor<1>>,
    decay: f64,
}

impl ModuleMapper for Mix {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.names.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.names.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = self.values.remove(&self.names.key());
        let value = value.expect("the average and the module have the same parameters");
        param.map(|average| {
            let shape = average.dims();
            average * self.decay + value.reshape(shape) * (1.0 - self.decay)
        })
    }
}
