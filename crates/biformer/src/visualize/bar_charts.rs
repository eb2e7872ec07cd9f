//! Things at one number each, as bars below one another.

use image::RgbImage;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::charts::{Drawn, INK, Panel, color, draw_panels, frame, plain, short, text};

/// Height of a bar; the rest of its place is for the name above it.
const BAR: f64 = 0.5;

/// A panel of bars, from 0 to the right.
#[derive(Debug, Clone)]
pub struct BarChart {
    /// What it shows.
    pub title: String,
    /// What the bars are as long as.
    pub x: &'static str,
    /// Name and number, 0 or more, of each bar, from above; told apart by ten colours.
    pub bars: Vec<(String, f64)>,
}

/// Draws `charts` in rows of three.
///
/// # Panics
/// If there are no charts.
pub fn draw_bar_charts(charts: &[BarChart]) -> RgbImage {
    draw_panels(charts, draw_chart)
}

fn draw_chart<'a>(panel: &Panel<'a>, BarChart { title, x, bars }: &BarChart) -> Drawn<'a> {
    let longest = bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
    // Room for a number behind the longest.
    let right = if longest > 0.0 { 1.25 * longest } else { 1.0 };
    let mut axes =
        frame(panel, title).build_cartesian_2d(0.0..right, -(bars.len().max(1) as f64)..0.0)?;
    plain(&mut axes.configure_mesh())
        .disable_y_mesh()
        .y_labels(0)
        .x_desc(*x)
        .x_labels(6)
        .x_label_formatter(&|value| short(*value))
        .draw()?;
    for (number, (name, value)) in bars.iter().enumerate() {
        let (color, below) = (color(number), -(number as f64) - 1.0);
        let corners = [(0.0, below + 0.05), (*value, below + 0.05 + BAR)];
        axes.draw_series([Rectangle::new(corners, color.filled())])?;
        let label = |at: (f64, f64), words: String, color: &RGBColor| {
            let style = text(color).pos(Pos::new(HPos::Left, VPos::Center));
            EmptyElement::at(at) + Text::new(words, (6, 0), style)
        };
        let rounded = if *value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") };
        axes.draw_series([
            label((0.0, below + 0.05 + BAR + 0.2), name.clone(), &color),
            label((*value, below + 0.05 + BAR / 2.0), rounded, &INK),
        ])?;
    }
    Ok(())
}
