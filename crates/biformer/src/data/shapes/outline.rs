//! The eight outlines as signed distances: below zero inside, above zero outside.
//!
//! Each shape is upright (y points up), centred, and fits a circle of radius about one. Near the
//! edge the values are distances, which is all that an anti-aliased edge or a soft shadow asks
//! for. Formulas after Inigo Quilez, <https://iquilezles.org/articles/distfunctions2d/>.

use std::f32::consts::{PI, SQRT_2};

/// A point or a vector of the picture plane.
pub(super) type Point = [f32; 2];

/// The class names; a label is a place in this list.
///
/// Sorted, because that is how a reader of the ImageFolder layout numbers them.
pub const CLASSES: [&str; 8] =
    ["crescent", "cross", "disc", "heart", "ring", "square", "star", "triangle"];

/// Signed distance from `point` to the outline of `class`.
pub(super) fn signed_distance(class: usize, point: Point) -> f32 {
    // In the order of `CLASSES`.
    const OUTLINES: [fn(Point) -> f32; CLASSES.len()] =
        [crescent, cross, disc, heart, ring, square, star, triangle];
    OUTLINES[class](point)
}

/// Distance to a bar with round ends from `start` to `end`.
pub(super) fn capsule(point: Point, start: Point, end: Point, radius: f32) -> f32 {
    let along = [end[0] - start[0], end[1] - start[1]];
    let offset = [point[0] - start[0], point[1] - start[1]];
    let position = (dot(offset, along) / dot(along, along)).clamp(0.0, 1.0);
    length([offset[0] - position * along[0], offset[1] - position * along[1]]) - radius
}

/// Length of a vector.
pub(super) fn length(vector: Point) -> f32 {
    dot(vector, vector).sqrt()
}

/// A disc minus a smaller disc to its right.
fn crescent([x, y]: Point) -> f32 {
    let full = length([x, y]) - 0.95;
    let bite = length([x - 0.5, y]) - 0.72;
    full.max(-bite)
}

/// Two bars at right angles.
fn cross([x, y]: Point) -> f32 {
    rectangle([x, y], [0.92, 0.28]).min(rectangle([x, y], [0.28, 0.92]))
}

fn disc(point: Point) -> f32 {
    length(point) - 0.88
}

/// A square on its tip with two half discs on its upper sides.
fn heart([x, y]: Point) -> f32 {
    // The formula's heart stands on the origin and is 1.1 high.
    const SCALE: f32 = 1.7;
    let [x, y] = [x.abs() / SCALE, y / SCALE + 0.55];
    let distance = if x + y > 1.0 {
        length([x - 0.25, y - 0.75]) - SQRT_2 / 4.0
    } else {
        let side = 0.5 * (x + y).max(0.0);
        length([x, y - 1.0]).min(length([x - side, y - side])) * (x - y).signum()
    };
    SCALE * distance
}

fn ring(point: Point) -> f32 {
    (length(point) - 0.69).abs() - 0.23
}

fn square(point: Point) -> f32 {
    rectangle(point, [0.77, 0.77])
}

/// Five points.
fn star([x, y]: Point) -> f32 {
    const OUTER: f32 = 1.05;
    const INNER: f32 = 0.45;
    // All ten edges are mirror images of the one from a tip to the inner corner next to it.
    let sector = 2.0 * PI / 5.0;
    let angle = x.atan2(y).rem_euclid(sector);
    let angle = angle.min(sector - angle);
    let radius = length([x, y]);
    let [x, y] = [radius * angle.sin(), radius * angle.cos()];
    let (sin, cos) = (PI / 5.0).sin_cos();
    let edge = [INNER * sin, INNER * cos - OUTER];
    ((y - OUTER) * edge[0] - x * edge[1]) / length(edge)
}

/// Three equal sides.
fn triangle([x, y]: Point) -> f32 {
    const INRADIUS: f32 = 0.53;
    // The circle around the shape is centred here; the middle of its height lies below that.
    let y = y + 0.12;
    let slope = 0.75_f32.sqrt() * x.abs() + 0.5 * y;
    slope.max(-y) - INRADIUS
}

/// Distance to an upright rectangle of half width and half height `half`.
fn rectangle([x, y]: Point, half: Point) -> f32 {
    let [x, y] = [x.abs() - half[0], y.abs() - half[1]];
    length([x.max(0.0), y.max(0.0)]) + x.max(y).min(0.0)
}

fn dot(a: Point, b: Point) -> f32 {
    a[0] * b[0] + a[1] * b[1]
}
