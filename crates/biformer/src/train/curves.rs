//! `results.png`: the metrics of a run as curves.

use image::RgbImage;

use super::EpochMetrics;
use crate::visualize::{Chart, Curve, draw_charts};

/// Loss, accuracy and learning rate over epochs.
pub(super) fn draw_curves(metrics: &[EpochMetrics]) -> RgbImage {
    let curve = |name, value: fn(&EpochMetrics) -> f64| Curve {
        name,
        points: metrics.iter().map(|epoch| (epoch.epoch, value(epoch))).collect(),
    };
    draw_charts(&[
        Chart {
            title: "Loss",
            curves: vec![curve("train", |m| m.train_loss), curve("val", |m| m.val_loss)],
        },
        Chart {
            title: "Accuracy",
            curves: vec![
                curve("train top1", |m| m.train_top1),
                curve("val top1", |m| m.val_top1),
                curve("val top5", |m| m.val_top5),
            ],
        },
        Chart { title: "Learning rate", curves: vec![curve("lr", |m| m.lr)] },
    ])
}
