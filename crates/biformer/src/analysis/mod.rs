//! Cost of models: parameters and multiply-accumulates counted from the built modules, and the
//! time that they take; speed of the loader.

mod benchmark;
mod complexity;
mod flops;
mod loader;
mod measure;

pub use benchmark::{Benchmark, inference, operator, train_step};
pub use complexity::optimal_n_win;
pub use flops::{
    LayerCost, backbone_costs, bra_costs, classifier_costs, map_sizes, segmentor_costs,
};
pub use loader::{LoaderMeasurement, loader};
pub use measure::{Measurement, OperatorTime};
