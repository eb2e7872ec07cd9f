//! The exponential moving average of a model, weights and running statistics alike, as timm's
//! `ModelEma` keeps it.

use std::collections::BTreeMap;

use burn::module::Module;

use crate::weights::{KeyStyle, map_flat, visit_flat};

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
        let mut values = BTreeMap::new();
        visit_flat(module, self.style, |key, value| {
            values.insert(key, value);
        });
        self.module = map_flat(self.module.clone(), self.style, |key, average| {
            let value = values.remove(key).expect("the average has the parameters of the module");
            Some(average * decay + value * (1.0 - decay))
        });
    }
}

/// The decay of step `step`, counted from 0. With warm-up it rises from 0 to `decay`, as in timm's
/// `ModelEmaV3`, so that the average of a short run is not made of its first weights.
pub fn ema_decay(decay: f64, warmup: bool, step: usize) -> f64 {
    const POWER: f64 = 2.0 / 3.0;
    if warmup { decay.min(1.0 - (1.0 + step as f64).powf(-POWER)) } else { decay }
}
