//! Curves of powers: straight lines on logarithmic axes.

use image::{Rgb, RgbImage};
use plotters::prelude::*;

use super::canvas::Canvas;
use super::charts::{AXIS, Curve, Drawn, GRID, INK, Panel, color};

/// Width and height of the picture.
const SIZE: [u32; 2] = [860, 560];

/// Curves on logarithmic axes.
#[derive(Debug, Clone)]
pub struct LogChart<'a> {
    /// What the curves show.
    pub title: &'a str,
    /// Below the horizontal axis.
    pub x_label: &'a str,
    /// Beside the vertical axis.
    pub y_label: &'a str,
    /// At most ten, told apart by colour. Points that are not above 0 on both axes are left out.
    pub curves: Vec<Curve<'a>>,
}

/// Draws `chart`. The legend is at the upper left, which curves that grow leave free.
///
/// # Panics
/// If no curve has a point above 0.
pub fn draw_log_chart(chart: &LogChart<'_>) -> RgbImage {
    let points: Vec<(f64, f64)> = chart.curves.iter().flat_map(positive).collect();
    assert!(!points.is_empty(), "points above 0: got: 0, expected: at least 1");
    let [width, height] = SIZE;
    let mut picture = RgbImage::from_pixel(width, height, Rgb([255, 255, 255]));
    {
        let panel = Canvas(&mut picture).into_drawing_area();
        draw(&panel, chart, &points).expect("drawing in memory cannot fail");
    }
    picture
}

fn draw<'a>(panel: &Panel<'a>, chart: &LogChart<'_>, points: &[(f64, f64)]) -> Drawn<'a> {
    let mut ticks: Vec<f64> = points.iter().map(|point| point.0).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let (left, right) = (ticks[0], ticks[ticks.len() - 1]);
    let low = points.iter().fold(f64::INFINITY, |low, point| low.min(point.1));
    let high = points.iter().fold(0.0f64, |high, point| high.max(point.1));
    let (lowest, highest) = (low.log10().floor() as i32, (high.log10().ceil() as i32));
    let highest = highest.max(lowest + 1);
    let powers: Vec<f64> = (lowest..=highest).map(|power| 10f64.powi(power)).collect();
    let (bottom, top) = (powers[0], powers[powers.len() - 1]);

    // The canvas has one font in one size.
    let text = ("monospace", 16).into_font().color(&INK);
    let title = ("monospace", 16, FontStyle::Bold).into_font().color(&INK);
    let mut axes = ChartBuilder::on(panel)
        .caption(chart.title, title)
        .margin(14)
        .margin_right(30)
        .x_label_area_size(46)
        .y_label_area_size(72)
        .build_cartesian_2d(
            (left / 1.1..right * 1.1).log_scale().with_key_points(ticks),
            (bottom..top).log_scale().with_key_points(powers),
        )?;
    axes.configure_mesh()
        .x_desc(chart.x_label)
        .y_desc(chart.y_label)
        .x_label_formatter(&|x| format!("{x}"))
        .y_label_formatter(&|y| format!("{y:e}"))
        .max_light_lines(0)
        .bold_line_style(GRID)
        .axis_style(AXIS)
        .label_style(text.clone())
        .axis_desc_style(text.clone())
        .draw()?;
    for (number, curve) in chart.curves.iter().enumerate() {
        let color = color(number);
        let style = ShapeStyle::from(color).stroke_width(2);
        axes.draw_series(LineSeries::new(positive(curve), style))?
            .label(curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        axes.draw_series(positive(curve).map(|point| Circle::new(point, 3, color.filled())))?;
    }
    axes.configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .margin(6)
        .legend_area_size(26)
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .label_font(text)
        .draw()
}

/// What has a logarithm.
fn positive(curve: &Curve<'_>) -> impl Iterator<Item = (f64, f64)> {
    let points = curve.points.iter().map(|&(x, y)| (x as f64, y));
    points.filter(|&(x, y)| x > 0.0 && y > 0.0 && y.is_finite())
}
