//! Things at two numbers each, with their names beside them.

use std::ops::Range;

use image::RgbImage;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::charts::{Drawn, Panel, color, draw_panels, frame, plain, short, text};

/// Height of a label in pixels.
const LINE: i32 = 15;

/// A panel of things, both axes linear.
#[derive(Debug, Clone)]
pub struct ScatterChart {
    /// What it shows.
    pub title: String,
    /// What lies to the right, from 0.
    pub x: &'static str,
    /// What lies above.
    pub y: &'static str,
    /// Told apart by ten colours.
    pub points: Vec<ScatterPoint>,
}

/// One thing.
#[derive(Debug, Clone)]
pub struct ScatterPoint {
    /// Told beside it.
    pub name: String,
    /// To the right, 0 or more.
    pub x: f64,
    /// Above.
    pub y: f64,
    /// How far it may be from there, up and down.
    pub spread: f64,
}

/// Draws `charts` in rows of three.
///
/// # Panics
/// If there are no charts.
pub fn draw_scatter_charts(charts: &[ScatterChart]) -> RgbImage {
    draw_panels(charts, draw_chart)
}

fn draw_chart<'a>(panel: &Panel<'a>, chart: &ScatterChart) -> Drawn<'a> {
    let (x, y) = (to_the_right(chart), above(chart));
    let middle = x.end / 2.0;
    let mut axes = frame(panel, &chart.title).build_cartesian_2d(x, y)?;
    plain(&mut axes.configure_mesh())
        .x_desc(chart.x)
        .y_desc(chart.y)
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .draw()?;
    let rows =
        label_rows(chart.points.iter().map(|point| axes.backend_coord(&(point.x, point.y)).1));
    for (number, ScatterPoint { name, x, y, spread }) in chart.points.iter().enumerate() {
        let color = color(number);
        let style = ShapeStyle::from(color).stroke_width(2);
        axes.draw_series(LineSeries::new([(*x, y - spread), (*x, y + spread)], style))?;
        axes.draw_series([Circle::new((*x, *y), 4, color.filled())])?;
        // Towards the middle, where there is room for it.
        let (side, away) = if *x > middle { (HPos::Right, -8) } else { (HPos::Left, 8) };
        let label = text(&color).pos(Pos::new(side, VPos::Center));
        let dot = EmptyElement::at((*x, *y));
        axes.draw_series([dot + Text::new(name.clone(), (away, rows[number]), label)])?;
    }
    Ok(())
}

/// How many pixels below its dot each label stands so that none lies over another; `dots` are in pixels from above.
fn label_rows(dots: impl Iterator<Item = i32>) -> Vec<i32> {
    let mut dots: Vec<(usize, i32)> = dots.enumerate().collect();
    let mut rows = vec![0; dots.len()];
    dots.sort_by_key(|dot| dot.1);
    // Those that would touch make a stack, whose middle is the mean of its dots.
    let mut stacks: Vec<Vec<(usize, i32)>> = Vec::new();
    let top = |stack: &[(usize, i32)]| {
        let count = stack.len() as i32;
        stack.iter().map(|dot| dot.1).sum::<i32>() / count - LINE * (count - 1) / 2
    };
    for dot in dots {
        let mut stack = vec![dot];
        while let Some(above) = stacks.pop() {
            if top(&above) + LINE * above.len() as i32 <= top(&stack) {
                stacks.push(above);
                break;
            }
            stack = [above, stack].concat();
        }
        stacks.push(stack);
    }
    for stack in stacks {
        let top = top(&stack);
        for (line, (number, dot)) in stack.into_iter().enumerate() {
            rows[number] = top + LINE * line as i32 - dot;
        }
    }
    rows
}

/// From 0 to a little beyond all points.
fn to_the_right(chart: &ScatterChart) -> Range<f64> {
    let most = chart.points.iter().map(|point| point.x).fold(0.0, f64::max);
    0.0..if most > 0.0 { 1.1 * most } else { 1.0 }
}

/// What the points reach with their spreads, and a little room.
fn above(chart: &ScatterChart) -> Range<f64> {
    let low = chart.points.iter().map(|point| point.y - point.spread).fold(f64::INFINITY, f64::min);
    let high = chart.points.iter().map(|point| point.y + point.spread);
    let high = high.fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return 0.0..1.0; // there are none
    }
    let room = (0.08 * (high - low)).max(0.5);
    low - room..high + room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_lie_over_one_another() {
        assert_eq!(label_rows([100, 200, 300].into_iter()), [0, 0, 0]);
        let dots = [150, 103, 100, 101, 400, 152];
        let rows = label_rows(dots.into_iter());
        let mut places: Vec<i32> = dots.iter().zip(&rows).map(|(dot, row)| dot + row).collect();
        assert_eq!(rows[4], 0);
        assert!(places[2] < places[3] && places[3] < places[1], "another order: {places:?}");
        places.sort();
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= LINE), "{places:?}");
    }
}
