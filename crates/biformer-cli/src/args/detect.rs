//! Flags for detectors, under mmdetection's names; ultralytics' are aliases.

use clap::Args;

/// What is told of what a detector finds.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "With a detector")]
pub struct DetectArgs {
    /// Scores that are not above it are dropped [default: 0.05 to evaluate, 0.3 to predict]
    #[arg(long, visible_alias = "conf", value_name = "SCORE")]
    pub score_thr: Option<f32>,
    /// IoU with a better box of the same class above which a box is dropped [default: 0.5]
    #[arg(long, visible_alias = "iou", value_name = "IOU")]
    pub iou_thr: Option<f32>,
    /// Things in a picture, at most [default: 100]
    #[arg(long, visible_alias = "max-det", value_name = "N")]
    pub max_per_img: Option<usize>,
}

impl DetectArgs {
    /// The first flag that was given, for commands that run another model.
    pub fn given(&self) -> Option<&'static str> {
        let flags = [
            ("score-thr", self.score_thr.is_some()),
            ("iou-thr", self.iou_thr.is_some()),
            ("max-per-img", self.max_per_img.is_some()),
        ];
        flags.into_iter().find_map(|(name, given)| given.then_some(name))
    }
}
