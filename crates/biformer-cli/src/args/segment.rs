//! Flags of commands that run a segmentor, under mmsegmentation's names.

use clap::{Args, ValueEnum};

/// How a segmentor looks at pictures.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "With a segmentor")]
pub struct LookArgs {
    #[command(flatten)]
    pub scale: ScaleArgs,
    #[command(flatten)]
    pub windows: WindowArgs,
    /// Multiples of the scale, whose probabilities are averaged [default: 1]
    #[arg(long, num_args = 1.., value_name = "RATIO")]
    pub img_ratios: Option<Vec<f64>>,
    /// Look at mirror images too
    #[arg(long)]
    pub flip: bool,
    /// Ratios of 0.5, 0.75, 1, 1.25, 1.5 and 1.75, mirrored too, as in the paper
    #[arg(long, conflicts_with_all = ["img_ratios", "flip"])]
    pub aug_test: bool,
}

/// The size at which a segmentor sees pictures.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "With a segmentor")]
pub struct ScaleArgs {
    /// Sides that pictures are resized to fit [default: what the file says, else 2048 512]
    #[arg(long, num_args = 2, value_names = ["LONG", "SHORT"])]
    pub img_scale: Option<Vec<u32>>,
    /// Stretch pictures to multiples of this; 1 is off [default: what the file says]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub size_divisor: Option<u32>,
}

/// How much of a picture a segmentor sees at once.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "With a segmentor")]
pub struct WindowArgs {
    /// See pictures whole, or slide a window over them [default: whole]
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Side of the window [default: 512]
    #[arg(long, value_name = "PIXELS")]
    pub crop_size: Option<usize>,
    /// From one window to the next [default: two thirds of the window]
    #[arg(long, value_name = "PIXELS")]
    pub stride: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Whole,
    Slide,
}

impl LookArgs {
    /// The first flag that was given, for commands that run a classifier.
    pub fn given(&self) -> Option<&'static str> {
        let flags = [
            ("img-ratios", self.img_ratios.is_some()),
            ("flip", self.flip),
            ("aug-test", self.aug_test),
        ];
        self.scale.given().or(self.windows.given()).or(first_given(flags))
    }
}

impl ScaleArgs {
    /// The first flag that was given.
    pub fn given(&self) -> Option<&'static str> {
        first_given([
            ("img-scale", self.img_scale.is_some()),
            ("size-divisor", self.size_divisor.is_some()),
        ])
    }
}

impl WindowArgs {
    /// The first flag that was given.
    pub fn given(&self) -> Option<&'static str> {
        first_given([
            ("mode", self.mode.is_some()),
            ("crop-size", self.crop_size.is_some()),
            ("stride", self.stride.is_some()),
        ])
    }
}

fn first_given<const N: usize>(flags: [(&'static str, bool); N]) -> Option<&'static str> {
    flags.into_iter().find_map(|(name, given)| given.then_some(name))
}
