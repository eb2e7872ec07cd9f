//! What a picture shows: a ground with clutter, one object, perhaps a bar in front, and light.
//!
//! [`Scene::sample`] draws everything without knowing the class; only [`Scene::color_at`] is told
//! it. That is the whole proof that the label is in the outline alone.
//!
//! The picture plane is the square [-1, 1]², y up.

use std::f32::consts::{PI, TAU};
use std::ops::Range;

use rand::{RngExt, rngs::StdRng};

use super::outline::{Point, capsule, length, signed_distance};
use super::surface::{Color, Surface, coverage, mix};

/// Radius of the object: it spans about 55 to 85 % of the side.
const RADIUS: Range<f32> = 0.58..0.86;
/// Rotation of the object, to both sides.
pub(super) const MAX_ROTATION: f32 = PI / 9.0;
/// Lightness of the base colours. The object is always the lighter one: to find out which of the
/// two is the figure would cost a small network the first epochs of its minute.
pub(super) const GROUND_LIGHTNESS: Range<f32> = 0.28..0.56;
pub(super) const OBJECT_LIGHTNESS: Range<f32> = 0.70..0.92;
/// Clutter and bars may be as dark as the ground or as light as the object.
const ANY_LIGHTNESS: Range<f32> = 0.28..0.92;
/// How often a bar lies in front of the object.
const OCCLUDED: f64 = 0.5;
/// Amplitude of the colour noise, drawn anew for each picture.
const NOISE: Range<f32> = 0.02..0.07;
/// How far a shadow falls, and how dark it is.
const SHADOW: (f32, f32) = (0.07, 0.35);

/// A picture before the class is known.
#[derive(Debug)]
pub(super) struct Scene {
    ground: Surface,
    clutter: Vec<Disc>,
    object: Surface,
    pose: Pose,
    occluder: Option<Bar>,
    /// Where the light comes from, as a unit vector.
    light: Point,
    /// Amplitude of the colour noise.
    pub noise: f32,
}

#[derive(Debug)]
pub(super) struct Pose {
    pub center: Point,
    pub radius: f32,
    pub rotation: f32,
}

/// A small disc lying on the ground.
#[derive(Debug)]
struct Disc {
    center: Point,
    radius: f32,
    surface: Surface,
}

/// A bar with round ends that hides a part of the object.
#[derive(Debug)]
struct Bar {
    start: Point,
    end: Point,
    radius: f32,
    surface: Surface,
}

impl Scene {
    /// Draws a scene.
    pub fn sample(rng: &mut StdRng) -> Self {
        let pose = Pose::sample(rng);
        let angle = rng.random_range(0.0..TAU);
        Self {
            ground: Surface::sample(GROUND_LIGHTNESS, rng),
            clutter: (0..rng.random_range(0..3)).map(|_| Disc::sample(rng)).collect(),
            object: Surface::sample(OBJECT_LIGHTNESS, rng),
            occluder: rng.random_bool(OCCLUDED).then(|| Bar::sample(&pose, rng)),
            pose,
            light: [angle.cos(), angle.sin()],
            noise: rng.random_range(NOISE),
        }
    }

    /// The colour at `point` when the object is a `class`, painted from back to front.
    pub fn color_at(&self, class: usize, point: Point, pixel: f32) -> Color {
        let [x, y] = point;
        let in_light = [x + SHADOW.0 * self.light[0], y + SHADOW.0 * self.light[1]];

        let mut color = self.ground.color_at(point, pixel);
        for disc in &self.clutter {
            let share = coverage(disc.distance(point), pixel);
            color = mix(color, disc.surface.color_at(point, pixel), share);
        }

        color = shade(color, self.pose.distance(class, in_light));
        let share = coverage(self.pose.distance(class, point), pixel);
        color = mix(color, self.object.color_at(point, pixel), share);

        if let Some(bar) = &self.occluder {
            color = shade(color, bar.distance(in_light));
            let share = coverage(bar.distance(point), pixel);
            color = mix(color, bar.surface.color_at(point, pixel), share);
        }

        let brightness = 1.0 + 0.12 * (x * self.light[0] + y * self.light[1]);
        color.map(|channel| channel * brightness)
    }

    /// Whether the object is what is seen at `point`, when it is a `class`.
    pub fn shows_object(&self, class: usize, point: Point) -> bool {
        let hidden = self.occluder.as_ref().is_some_and(|bar| bar.distance(point) < 0.0);
        self.pose.distance(class, point) < 0.0 && !hidden
    }
}

impl Pose {
    fn sample(rng: &mut StdRng) -> Self {
        let radius = rng.random_range(RADIUS);
        // The circle around the object stays in the picture.
        let margin = 1.0 - radius;
        Self {
            center: [rng.random_range(-margin..margin), rng.random_range(-margin..margin)],
            radius,
            rotation: rng.random_range(-MAX_ROTATION..MAX_ROTATION),
        }
    }

    /// Signed distance from `point` to the outline of `class` in this pose.
    pub fn distance(&self, class: usize, point: Point) -> f32 {
        let (sin, cos) = self.rotation.sin_cos();
        let x = (point[0] - self.center[0]) / self.radius;
        let y = (point[1] - self.center[1]) / self.radius;
        self.radius * signed_distance(class, [x * cos + y * sin, y * cos - x * sin])
    }
}

impl Disc {
    fn sample(rng: &mut StdRng) -> Self {
        Self {
            center: [rng.random_range(-1.0..1.0), rng.random_range(-1.0..1.0)],
            radius: rng.random_range(0.06..0.20),
            surface: Surface::sample(ANY_LIGHTNESS, rng),
        }
    }

    fn distance(&self, point: Point) -> f32 {
        length([point[0] - self.center[0], point[1] - self.center[1]]) - self.radius
    }
}

impl Bar {
    /// A bar that crosses the object beside its centre.
    fn sample(pose: &Pose, rng: &mut StdRng) -> Self {
        let angle = rng.random_range(0.0..TAU);
        let (sin, cos) = angle.sin_cos();
        let aside = pose.radius * rng.random_range(0.2..0.9);
        let middle = [pose.center[0] + aside * cos, pose.center[1] + aside * sin];
        let half_length = rng.random_range(0.4..1.2);
        Self {
            start: [middle[0] - half_length * sin, middle[1] + half_length * cos],
            end: [middle[0] + half_length * sin, middle[1] - half_length * cos],
            radius: rng.random_range(0.06..0.14),
            surface: Surface::sample(ANY_LIGHTNESS, rng),
        }
    }

    fn distance(&self, point: Point) -> f32 {
        capsule(point, self.start, self.end, self.radius)
    }
}

/// Darkens `color` under the soft shadow of a thing at signed distance `distance`.
fn shade(color: Color, distance: f32) -> Color {
    let (softness, darkness) = SHADOW;
    let depth = (0.5 - distance / (2.0 * softness)).clamp(0.0, 1.0);
    color.map(|channel| channel * (1.0 - darkness * depth))
}
