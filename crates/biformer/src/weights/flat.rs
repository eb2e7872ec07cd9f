//! The weights and running statistics of a module as flat vectors by official key, in the module's
//! own layout: for what treats them all alike, such as averages.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::{KeyStyle, Names};

/// Calls `visit` with official key and values of each tensor, in the order of the module.
pub(crate) fn visit_flat<M: Module>(
    module: &M,
    style: KeyStyle,
    visit: impl FnMut(String, Tensor<1>),
) {
    module.visit(&mut Visitor { names: Names::new(style), visit });
}

/// The module with the values that `map` gives for official key and values; `None` leaves them.
/// The running statistics of clones change too: they share them.
pub(crate) fn map_flat<M: Module>(
    module: M,
    style: KeyStyle,
    map: impl FnMut(&str, Tensor<1>) -> Option<Tensor<1>>,
) -> M {
    module.map(&mut Mapper { names: Names::new(style), map })
}

struct Visitor<F> {
    names: Names,
    visit: F,
}

impl<F: FnMut(String, Tensor<1>)> ModuleVisitor for Visitor<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.names.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.names.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        (self.visit)(self.names.key(), param.val().flatten(0, D - 1));
    }
}

struct Mapper<F> {
    names: Names,
    map: F,
}

impl<F: FnMut(&str, Tensor<1>) -> Option<Tensor<1>>> ModuleMapper for Mapper<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.names.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.names.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match (self.map)(&self.names.key(), param.val().flatten(0, D - 1)) {
            Some(values) => param.map(|old| values.reshape(old.dims())),
            None => param,
        }
    }
}
