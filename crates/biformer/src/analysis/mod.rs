//! Cost of models: parameters and multiply-accumulates counted from the built modules, how they grow
//! with the map, and the time that they take; speed of the loader.

mod benchmark;
mod complexity;
mod flops;
mod loader;
mod measure;

pub use benchmark::{Benchmark, inference, operator, train_step};
pub use complexity::{
    AttentionCost, Mechanism, bra_cost, dividing_n_win, fitted_exponent, optimal_n_win,
};
pub use flops::{LayerCost, backbone_costs, bra_costs, classifier_costs, map_sizes};
pub use loader::{LoaderMeasurement, loader};
pub use measure::{Measurement, OperatorTime};
