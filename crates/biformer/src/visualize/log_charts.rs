//! Charts with logarithmic axes: rooflines, growth.

use std::ops::Range;

use image::RgbImage;
use plotters::prelude::*;

use super::charts::{
    Drawn, GRID, INK, Panel, color, draw_panels, frame, legend_position, plain, short, text,
};

/// A panel with powers of ten on both axes.
#[derive(Debug, Clone)]
pub struct LogChart {
    /// What it shows.
    pub title: String,
    /// What lies to the right.
    pub x: &'static str,
    /// What lies above.
    pub y: &'static str,
    /// With at least one point in all.
    pub series: Vec<LogSeries>,
}

/// Points that belong together.
#[derive(Debug, Clone)]
pub struct LogSeries {
    /// Name in the legend.
    pub name: String,
    /// Positive numbers, from left to right.
    pub points: Vec<(f64, f64)>,
    /// How they are drawn.
    pub mark: Mark,
    /// One of ten.
    pub color: usize,
}

/// How points are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Mark {
    Line,
    Dots,
    LineWithDots,
    DashesWithRings,
}

/// Draws `charts` in rows of three.
///
/// # Panics
/// If there are no charts, or one has no points.
pub fn draw_log_charts(charts: &[LogChart]) -> RgbImage {
    draw_panels(charts, draw_chart)
}

fn draw_chart<'a>(panel: &Panel<'a>, chart: &LogChart) -> Drawn<'a> {
    let [x, y] = [decades(chart, |point| point.0), decades(chart, |point| point.1)];
    // A long legend takes half of the panel: nothing else should be there.
    let room = if chart.series.len() > 4 { x.end / x.start } else { 1.0 };
    let ranges = [x.start..room * x.end, y];
    let [x, y] = ranges.clone();
    let mut axes = frame(panel, &chart.title).build_cartesian_2d(x.log_scale(), y.log_scale())?;
    plain(&mut axes.configure_mesh())
        .x_desc(chart.x)
        .y_desc(chart.y)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .draw()?;
    for LogSeries { name, points, mark, color: number } in &chart.series {
        let (color, mark) = (color(*number), *mark);
        let style = ShapeStyle::from(color).stroke_width(2);
        let dot = if mark == Mark::DashesWithRings { style } else { color.filled() };
        let path = points.iter().copied();
        match mark {
            Mark::Dots => {}
            Mark::Line | Mark::LineWithDots => {
                axes.draw_series(LineSeries::new(path.clone(), style))?;
            }
            Mark::DashesWithRings => {
                axes.draw_series(DashedLineSeries::new(path.clone(), 6, 5, style))?;
            }
        }
        if mark != Mark::Line {
            // The first ring would lie on the last dot, from where its dashes start.
            let skipped = usize::from(mark == Mark::DashesWithRings);
            axes.draw_series(path.skip(skipped).map(|point| Circle::new(point, 4, dot)))?;
        }
        let none = std::iter::empty::<Circle<(f64, f64), i32>>();
        axes.draw_series(none)?.label(name).legend(move |(x, y)| {
            let line = if mark == Mark::Dots { [(9, 0); 2] } else { [(0, 0), (18, 0)] };
            let radius = if mark == Mark::Line { 0 } else { 4 };
            EmptyElement::at((x, y))
                + PathElement::new(line, style)
                + Circle::new((9, 0), radius, dot)
        });
    }
    axes.configure_series_labels()
        .position(legend_position(&places(chart, &ranges)))
        .margin(6)
        .legend_area_size(26)
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .label_font(text(&INK))
        .draw()
}

/// The powers of ten around all points.
fn decades(chart: &LogChart, value: fn(&(f64, f64)) -> f64) -> Range<f64> {
    let values = chart.series.iter().flat_map(|series| &series.points).map(value);
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(0.0, f64::max);
    assert!(low > 0.0 && low <= high, "a chart with logarithmic axes: no positive numbers");
    let (low, high) = (low.log10().floor(), high.log10().ceil());
    10f64.powf(low)..10f64.powf(high.max(low + 1.0))
}

/// The points and those between them, in parts of the panel's width and height.
fn places(chart: &LogChart, [x, y]: &[Range<f64>; 2]) -> Vec<(f64, f64)> {
    let part = |value: f64, range: &Range<f64>| {
        (value / range.start).ln() / (range.end / range.start).ln()
    };
    let mut places = Vec::new();
    for series in &chart.series {
        let points: Vec<(f64, f64)> =
            series.points.iter().map(|point| (part(point.0, x), part(point.1, y))).collect();
        places.extend(points.last());
        for ends in points.windows(2) {
            let [from, to] = [ends[0], ends[1]];
            for along in [0.0, 0.25, 0.5, 0.75] {
                let between = |from: f64, to: f64| from + along * (to - from);
                places.push((between(from.0, to.0), between(from.1, to.1)));
            }
        }
    }
    places
}
