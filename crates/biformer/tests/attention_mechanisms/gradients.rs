//! Gradients of every mechanism, for the map and for each of its weights, against central differences.

use biformer::attention::{
    AxialAttentionConfig, Axis, BlockAttention, BlockGridConfig, CrissCrossConfig,
    CrossShapedConfig, DatAttention, DeformableAttention, DeformableConfig, GlobalSubSampledConfig,
    Partition, QuadTreeConfig, ShiftedWindowConfig, SlidingWindowConfig,
    SpatiallySeparableAttention,
};
use biformer::weights::{KeyStyle, load_state_dict, state_dict};
use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};

use super::{disturbed, number, numbers, values};

const DIM: usize = 8;
const HEADS: usize = 2;
/// No multiple of a window of 3, of a stripe of 2, or of a cell of 2.
const SHAPE: [usize; 4] = [1, 4, 5, DIM];

/// Half the distance of a central difference, along a direction of length 1. The losses are sums of 160 numbers below
/// 1: one is exact to some 1e-6, and its difference to 1e-6 · 2⁵ = 3e-5.
const STEP: f64 = 1.0 / 64.0;

/// That, and the third derivative along the direction, up to some units: 2⁻¹² / 6 of it.
const TOLERANCE: f64 = 4e-4;

/// Moves one parameter along its direction.
struct Move {
    target: usize,
    step: f64,
    visited: usize,
}

impl ModuleMapper for Move {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.visited += 1;
        if self.visited - 1 != self.target {
            return param;
        }
        let value = param.val();
        let direction = direction(value.dims(), self.target, &value.device());
        Param::initialized(param.id, value + direction * self.step)
    }
}

/// The gradient of each parameter along its direction.
struct Along<'a> {
    gradients: &'a Gradients,
    found: Vec<f64>,
}

impl ModuleVisitor for Along<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(self.gradients).expect("a gradient of every weight");
        let direction = direction(gradient.dims(), self.found.len(), &gradient.device());
        self.found.push(f64::from((gradient * direction).sum().into_scalar::<f32>()));
    }
}

/// Of length 1.
fn direction<const D: usize>(shape: [usize; D], seed: usize, device: &Device) -> Tensor<D> {
    let direction = numbers(shape, 100 + seed, device);
    let length = values(direction.clone()).iter().map(|x| x * x).sum::<f32>().sqrt();
    direction / length
}

fn loss<A: BlockAttention>(attention: &A, x: Tensor<4>) -> Tensor<1> {
    let output = attention.forward(x);
    let coefficients = numbers(output.dims(), 99, &output.device());
    (output * coefficients).sum()
}

fn check<A: BlockAttention>(what: &str, init: impl Fn(&Device) -> A) {
    let (device, differentiable) = (Device::default(), Device::default().autodiff());
    let x = numbers(SHAPE, 1, &device);
    let plain = init(&device);
    let tracked = Tensor::from_data(x.clone().into_data(), &differentiable).require_grad();
    let attention = init(&differentiable);
    let gradients = loss(&attention, tracked.clone()).backward();

    let along = direction(SHAPE, 50, &device);
    let of_map = tracked.grad(&gradients).expect("a gradient of the map") * along.clone();
    let found = f64::from(of_map.sum().into_scalar::<f32>());
    let at =
        |step: f64| f64::from(loss(&plain, x.clone() + along.clone() * step).into_scalar::<f32>());
    assert_near(&format!("{what}, map"), found, (at(STEP) - at(-STEP)) / (2.0 * STEP));

    let mut visitor = Along { gradients: &gradients, found: Vec::new() };
    attention.visit(&mut visitor);
    let mut largest = 0.0f64;
    for (target, found) in visitor.found.into_iter().enumerate() {
        let at = |step: f64| {
            let moved = plain.clone().map(&mut Move { target, step, visited: 0 });
            f64::from(loss(&moved, x.clone()).into_scalar::<f32>())
        };
        assert_near(
            &format!("{what}, weight {target}"),
            found,
            (at(STEP) - at(-STEP)) / (2.0 * STEP),
        );
        largest = largest.max(found.abs());
    }
    assert!(largest > 0.1, "{what}: no gradient that could be compared");
}

fn assert_near(what: &str, found: f64, expected: f64) {
    let error = (found - expected).abs();
    assert!(error < TOLERANCE * expected.abs().max(1.0), "{what}: {found}, expected {expected}");
}

/// All points near the middle between two rows and two columns: at a token the interpolation has no derivative.
/// The norm gives 1 ± 0.05, GELU(1) = 0.84, and tanh(4 · 0.84 · 0.16) = 0.49.
fn between_tokens(attention: DeformableAttention) -> DeformableAttention {
    let mut weights = state_dict(&disturbed(attention.clone()), KeyStyle::Stl);
    for (seed, (key, tensor)) in weights.iter_mut().enumerate() {
        let (middle, scale) = match key.as_str() {
            "offsets.normalize.weight" => (0.0, 0.05),
            "offsets.normalize.bias" => (1.0, 0.05),
            "offsets.project.weight" => (0.16, 0.02),
            _ => continue,
        };
        for (i, value) in tensor.data.iter_mut().enumerate() {
            *value = middle + scale * number(seed, i);
        }
    }
    load_state_dict(attention, weights, KeyStyle::Stl).expect("its own keys")
}

#[test]
fn of_windows() {
    let config = ShiftedWindowConfig::new(DIM, HEADS).with_window_size(3);
    check("window", |device| disturbed(config.init(device)));
    let config = config.clone().with_shifted(true);
    check("shifted window", |device| disturbed(config.init(device)));
    let config = SlidingWindowConfig::new(DIM, HEADS).with_window_size(3);
    check("sliding window", |device| disturbed(config.init(device)));
    for partition in [Partition::Block, Partition::Grid] {
        let config = BlockGridConfig::new(DIM, HEADS, partition).with_window_size(3);
        check(&format!("{partition}"), |device| disturbed(config.init(device)));
    }
}

#[test]
fn of_lines() {
    for axis in [Axis::Row, Axis::Column] {
        let config = AxialAttentionConfig::new(DIM, HEADS, axis);
        check(&format!("{axis}"), |device| disturbed(config.init(device)));
    }
    check("criss-cross", |device| disturbed(CrissCrossConfig::new(DIM, HEADS).init(device)));
    for stripe_width in [Some(2), None] {
        let config = CrossShapedConfig::new(DIM, HEADS).with_stripe_width(stripe_width);
        check("cross-shaped", |device| disturbed(config.init(device)));
    }
}

#[test]
fn of_sampled_tokens() {
    check("sub-sampled", |device| {
        let config = GlobalSubSampledConfig::new(DIM, HEADS, 2);
        SpatiallySeparableAttention::GlobalSubSampled(disturbed(config.init(device)))
    });
    check("deformable", |device| {
        let attention = DeformableConfig::new(DIM, HEADS, 2, 3, 4).init(device);
        DatAttention::Deformable(between_tokens(attention))
    });
    check("quad-tree", |device| {
        disturbed(QuadTreeConfig::new(DIM, HEADS, 2).with_topk(2).init(device))
    });
}
