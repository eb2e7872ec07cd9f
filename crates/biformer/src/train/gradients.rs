//! Gradients by the names of the parameters, between the backward pass and the optimizer: to be
//! averaged over batches, summed over processes and clipped.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

use crate::weights::{KeyStyle, Names};

/// The gradients of a module by official key, each as one flat vector.
#[derive(Debug, Default)]
pub struct NamedGradients(BTreeMap<String, Tensor<1>>);

impl NamedGradients {
    /// What a backward pass left for the parameters of `module`.
    pub fn collect<M: Module>(module: &M, gradients: Gradients, style: KeyStyle) -> Self {
        let mut collect = Collect { names: Names::new(style), gradients, found: Self::default() };
        module.visit(&mut collect);
        collect.found
    }

    /// Takes the gradient of one parameter out.
    pub fn remove(&mut self, key: &str) -> Option<Tensor<1>> {
        self.0.remove(key)
    }

    /// The gradients in the order of their keys, to be changed in place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&String, &mut Tensor<1>)> {
        self.0.iter_mut()
    }

    /// The mean of these and `others`, whose weight is `share`, from 0 to 1.
    pub fn average_in(&mut self, others: Self, share: f64) {
        for (key, other) in others.0 {
            let mean = match self.0.remove(&key) {
                Some(gradient) => gradient * (1.0 - share) + other * share,
                None => other * share,
            };
            self.0.insert(key, mean);
        }
    }

    /// The Euclidean norm over all gradients.
    pub fn norm(&self) -> f64 {
        let squares = self.0.values().map(|gradient| gradient.clone().square().sum());
        let squares: Vec<_> = squares.collect();
        if squares.is_empty() {
            return 0.0;
        }
        let squares = Tensor::cat(squares, 0).into_data_as::<f32>();
        let squares: Vec<f32> = squares.try_into_vec().expect("float32 gradients");
        squares.into_iter().map(f64::from).sum::<f64>().sqrt()
    }

    /// Shortens the gradients to a norm of `max_norm` if they are longer, as PyTorch's
    /// `clip_grad_norm_` does; returns the norm before.
    pub fn clip_norm(&mut self, max_norm: f64) -> f64 {
        let norm = self.norm();
        let factor = max_norm / (norm + 1e-6);
        if factor < 1.0 {
            self.0.values_mut().for_each(|gradient| *gradient = gradient.clone() * factor);
        }
        norm
    }
}

struct Collect {
    names: Names,
    gradients: Gradients,
    found: NamedGradients,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.names.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.names.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad_remove(&mut self.gradients) {
            self.found.0.insert(self.names.key(), gradient.flatten(0, D - 1));
        }
    }
}
