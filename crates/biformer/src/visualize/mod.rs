//! Pictures about training, predictions and attention.

mod attention_maps;
mod bar_charts;
mod canvas;
mod charts;
mod confusion_matrix;
mod contact_sheet;
mod detection;
mod log_charts;
mod page;
mod routing;
mod scatter_charts;
mod segmentation;
mod text;

pub use attention_maps::AttentionMaps;
pub use bar_charts::{BarChart, draw_bar_charts};
pub use charts::{Chart, Curve, draw_charts};
pub use confusion_matrix::{Confusions, draw_confusions};
pub use contact_sheet::{Tile, contact_sheet};
pub use detection::{DrawnInstance, draw_instances, instance_palette};
pub use log_charts::{LogChart, LogSeries, Mark, draw_log_charts};
pub use page::{Page, attention_page};
pub use routing::{draw_attention, draw_heat_map};
pub use scatter_charts::{ScatterChart, ScatterPoint, draw_scatter_charts};
pub use segmentation::{draw_segmentation, overlay};

use std::io::{Cursor, Write};
use std::path::Path;

use image::{ImageFormat, RgbImage};

use crate::Result;
use crate::files::write_atomically;

/// Writes a page, whole or not at all.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_atomically(path, |file| file.write_all(text.as_bytes()))
}

/// Writes a picture as PNG, whole or not at all.
pub fn write_png(path: &Path, picture: &RgbImage) -> Result<()> {
    write_atomically(path, |file| {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).map_err(std::io::Error::other)?;
        file.write_all(bytes.get_ref())
    })
}
