//! Cost of models: parameters, multiply-accumulates and traffic counted from the built modules, how they
//! grow with the map, and the time that they take, beside what the machine could do; speed of the
//! loader.

mod benchmark;
mod complexity;
mod flops;
mod growth;
mod loader;
mod measure;
mod roofline;
mod segmentation;

pub use benchmark::{Benchmark, full_attention, inference, operator, train_step};
pub use complexity::{
    AttentionCost, Mechanism, best_n_win, bra_cost, dividing_n_win, fitted_exponent, optimal_n_win,
};
pub use flops::{
    LayerCost, backbone_costs, bra_costs, classifier_costs, full_attention_costs, map_sizes,
    segmentor_costs,
};
pub use growth::{
    Exponents, FULL_LIMIT, Growing, Growth, GrowthOptions, GrowthPoint, draw_growth, growth,
};
pub use loader::{LoaderMeasurement, loader};
pub use measure::{Latency, Measurement, OperatorTime, Speed};
pub use roofline::{Roofs, draw_rooflines};
pub use segmentation::segmentor_inference;
