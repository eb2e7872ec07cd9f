//! Cost of models: parameters and multiply-accumulates, counted from the built modules.

mod flops;

pub use flops::{LayerCost, backbone_costs, classifier_costs};
