//! `results.png`: the metrics of a run as curves.

use image::RgbImage;

use super::EpochMetrics;
use crate::visualize::{Chart, Curve, draw_charts};

/// Loss, accuracy and learning rate over epochs.
pub(super) fn draw_curves(metrics: &[EpochMetrics]) -> RgbImage {
    let points = |value: &dyn Fn(&EpochMetrics) -> f64| {
        metrics.iter().map(|epoch| (epoch.epoch, value(epoch))).collect()
    };
    let names: Vec<&str> = metrics[0].scores.named().iter().map(|(name, _)| *name).collect();
    let legends: Vec<String> = names.iter().map(|name| name.replacen('_', " ", 1)).collect();
    let mut losses = vec![Curve { name: "train", points: points(&|m| m.train_loss) }];
    let mut accuracies = Vec::new();
    for (i, (name, legend)) in names.iter().zip(&legends).enumerate() {
        let points = points(&|m| m.scores.named()[i].1);
        match *name {
            "val_loss" => losses.push(Curve { name: "val", points }),
            _ => accuracies.push(Curve { name: legend, points }),
        }
    }
    draw_charts(&[
        Chart { title: "Loss", curves: losses },
        Chart { title: "Accuracy", curves: accuracies },
        Chart {
            title: "Learning rate",
            curves: vec![Curve { name: "lr", points: points(&|m| m.lr) }],
        },
    ])
}
