//! Curves over epochs, in panels side by side.

use std::ops::Range;

use image::{Rgb, RgbImage};
use plotters::chart::MeshStyle;
use plotters::prelude::*;

use super::canvas::Canvas;

/// Size of a panel.
const PANEL: [u32; 2] = [520, 400];
/// Panels side by side; further ones are below.
const COLUMNS: usize = 3;

pub(super) const INK: RGBColor = RGBColor(32, 33, 36);
pub(super) const GRID: RGBColor = RGBColor(225, 226, 230);
pub(super) const AXIS: RGBColor = RGBColor(150, 152, 158);

/// A panel with one or more curves.
#[derive(Debug, Clone)]
pub struct Chart<'a> {
    /// What the curves show.
    pub title: &'a str,
    /// At most ten, told apart by colour.
    pub curves: Vec<Curve<'a>>,
}

/// Values over epochs, or over other whole numbers.
#[derive(Debug, Clone)]
pub struct Curve<'a> {
    /// Name in the legend.
    pub name: &'a str,
    /// Epoch and value; values that are no finite numbers leave a gap.
    pub points: Vec<(usize, f64)>,
}

/// Draws `charts` side by side.
///
/// # Panics
/// If there are no charts.
pub fn draw_charts(charts: &[Chart<'_>]) -> RgbImage {
    draw_panels(charts, draw_chart)
}

pub(super) type Panel<'a> = DrawingArea<Canvas<'a>, plotters::coord::Shift>;
pub(super) type Drawn<'a> =
    Result<(), DrawingAreaErrorKind<<Canvas<'a> as DrawingBackend>::ErrorType>>;

/// A panel for each of `charts`, in rows of three.
pub(super) fn draw_panels<C>(
    charts: &[C],
    draw: impl for<'a> Fn(&Panel<'a>, &C) -> Drawn<'a>,
) -> RgbImage {
    assert!(!charts.is_empty(), "charts: got: 0, expected: at least 1");
    let [width, height] = PANEL;
    let (columns, rows) = (charts.len().min(COLUMNS), charts.len().div_ceil(COLUMNS));
    let size = [width * columns as u32, height * rows as u32];
    let mut picture = RgbImage::from_pixel(size[0], size[1], Rgb([255, 255, 255]));
    {
        let canvas = Canvas(&mut picture).into_drawing_area();
        for (panel, chart) in canvas.split_evenly((rows, columns)).iter().zip(charts) {
            draw(panel, chart).expect("drawing in memory cannot fail");
        }
    }
    picture
}

fn draw_chart<'a>(panel: &Panel<'a>, chart: &Chart<'_>) -> Drawn<'a> {
    let mut axes = frame(panel, chart.title).build_cartesian_2d(epochs(chart), values(chart))?;
    plain(&mut axes.configure_mesh())
        .x_desc("epoch")
        .x_labels(8)
        .y_labels(6)
        .y_label_formatter(&|value| short(*value))
        .draw()?;
    for (number, curve) in chart.curves.iter().enumerate() {
        let color = color(number);
        let style = ShapeStyle::from(color).stroke_width(2);
        for part in curve.points.split(|(_, value)| !value.is_finite()) {
            let part = part.iter().map(|&(epoch, value)| (epoch as i32, value));
            axes.draw_series(LineSeries::new(part.clone(), style))?;
            // An epoch alone has no line.
            if part.len() == 1 {
                axes.draw_series(part.map(|point| Circle::new(point, 3, color.filled())))?;
            }
        }
        axes.draw_series(std::iter::empty::<Circle<(i32, f64), i32>>())?
            .label(curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    axes.configure_series_labels()
        .position(legend_position(&along_curves(chart)))
        .margin(6)
        .legend_area_size(26)
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .label_font(text(&INK))
        .draw()
}

/// Title, margins and room for labels.
pub(super) fn frame<'a, 'p>(panel: &'p Panel<'a>, title: &str) -> ChartBuilder<'p, 'p, Canvas<'a>> {
    let style = ("monospace", 16, FontStyle::Bold).into_font().color(&INK);
    let mut frame = ChartBuilder::on(panel);
    frame.caption(title, style).margin(14).margin_right(24);
    frame.x_label_area_size(46).y_label_area_size(72);
    frame
}

/// A grid of few thin lines.
pub(super) fn plain<'m, 'a, 'b, X: Ranged, Y: Ranged, B: DrawingBackend>(
    mesh: &'m mut MeshStyle<'a, 'b, X, Y, B>,
) -> &'m mut MeshStyle<'a, 'b, X, Y, B> {
    let mesh = mesh.max_light_lines(0).bold_line_style(GRID).axis_style(AXIS);
    mesh.label_style(text(&INK)).axis_desc_style(text(&INK))
}

/// The canvas has one font in one size.
pub(super) fn text(color: &RGBColor) -> TextStyle<'static> {
    ("monospace", 16).into_font().color(color)
}

/// The first ten categories of d3, as matplotlib has them.
pub(super) fn color(number: usize) -> RGBColor {
    let colorous::Color { r, g, b } = colorous::CATEGORY10[number % 10];
    RGBColor(r, g, b)
}

/// From 0, the start of the run. (From any other number `plotters` draws lines beside the chart.)
fn epochs(chart: &Chart<'_>) -> Range<i32> {
    let epochs = chart.curves.iter().flat_map(|curve| &curve.points).map(|point| point.0);
    0..epochs.max().unwrap_or(0).max(1) as i32
}

/// What the curves reach, with a little room above and below.
fn values(chart: &Chart<'_>) -> Range<f64> {
    let values = finite(chart);
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return 0.0..1.0; // there are none
    }
    let room = match 0.05 * (high - low) {
        0.0 => 0.1 * high.abs().max(1e-3),
        room => room,
    };
    low - room..high + room
}

fn finite<'a>(chart: &'a Chart<'_>) -> impl Iterator<Item = f64> + Clone + 'a {
    let values = chart.curves.iter().flat_map(|curve| &curve.points).map(|point| point.1);
    values.filter(|value| value.is_finite())
}

/// The corner with the fewest of `points`, which are in parts of the panel's width and height.
pub(super) fn legend_position(points: &[(f64, f64)]) -> SeriesLabelPosition {
    use SeriesLabelPosition::{LowerLeft, LowerRight, UpperLeft, UpperRight};
    let crossings = |is_right: bool, is_upper: bool| {
        let is_inside = |&&(x, y): &&(f64, f64)| {
            (if is_right { x > 0.6 } else { x < 0.4 }) && (if is_upper { y > 0.7 } else { y < 0.3 })
        };
        points.iter().filter(is_inside).count()
    };
    let corners = [
        (crossings(true, true), UpperRight),
        (crossings(true, false), LowerRight),
        (crossings(false, true), UpperLeft),
        (crossings(false, false), LowerLeft),
    ];
    corners.into_iter().min_by_key(|corner| corner.0).map_or(UpperRight, |corner| corner.1)
}

/// Points of the curves and between those, in parts of the panel's width and height.
fn along_curves(chart: &Chart<'_>) -> Vec<(f64, f64)> {
    let (epochs, values) = (epochs(chart), values(chart));
    let place = |epoch: f64, value: f64| {
        let height = (value - values.start) / (values.end - values.start);
        (epoch / f64::from(epochs.end), height)
    };
    let mut places = Vec::new();
    for curve in &chart.curves {
        // An epoch alone is its own neighbour.
        let next = curve.points.iter().skip(1).chain(curve.points.last());
        for (&(epoch, value), &(next_epoch, next_value)) in curve.points.iter().zip(next) {
            for part in [0.0, 0.25, 0.5, 0.75] {
                let epoch = epoch as f64 + part * (next_epoch as f64 - epoch as f64);
                places.push(place(epoch, value + part * (next_value - value)));
            }
        }
    }
    places
}

/// A number as a person would write it at an axis.
pub(super) fn short(value: f64) -> String {
    let trim = |digits: &str| digits.trim_end_matches('0').trim_end_matches('.').to_owned();
    if value == 0.0 || (1e-2..1e5).contains(&value.abs()) {
        return trim(&format!("{value:.4}"));
    }
    let digits = format!("{value:.3e}");
    match digits.split_once('e') {
        Some((digits, exponent)) => format!("{}e{exponent}", trim(digits)),
        None => digits, // NaN and infinity are no labels
    }
}
