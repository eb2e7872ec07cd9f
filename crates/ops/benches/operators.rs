//! Every fused operator against its definition, in one run: medians of ten, answers checked
//! before they are timed. Run with `cargo bench -p biformer-ops`.

use std::time::Instant;

use biformer_ops::{
    depthwise_conv, depthwise_conv_add, depthwise_conv_reference, gelu, layer_norm,
    layer_norm_reference,
};
use burn::tensor::{Device, Distribution, Tensor, activation};

const RUNS: usize = 10;

fn main() {
    println!("{:<40} {:>12} {:>12} {:>7}", "operator", "definition", "fused", "ratio");
    // Batch, side and channels of the stages of BiFormer-T at 224², and of nano at 64².
    let stages = [[56, 64], [28, 128], [14, 256], [7, 512]];
    let batches = [1, 8].map(|batch| stages.map(|[side, channels]| [batch, side, channels]));
    for [batch, side, channels] in batches.concat().into_iter().chain([[64, 16, 32]]) {
        for kernel_size in [3, 5] {
            bench_depthwise_conv([batch, side, side, channels], kernel_size);
        }
        bench_lce([batch, side, side, channels]);
        bench_layer_norm([batch, side, side, channels]);
        bench_gelu([batch, side, side, 3 * channels]);
    }
}

fn bench_depthwise_conv(shape: [usize; 4], kernel_size: usize) {
    let device = Device::default();
    let [.., channels] = shape;
    let weight = random([channels, 1, kernel_size, kernel_size], &device);
    let bias = random([channels], &device);
    let definition = |x: Tensor<4>, [w, b]: [Tensor<1>; 2]| {
        let w = w.reshape([channels, 1, kernel_size, kernel_size]);
        depthwise_conv_reference(x, w, b)
    };
    let fused = |x: Tensor<4>, [w, b]: [Tensor<1>; 2]| {
        let w = w.reshape([channels, 1, kernel_size, kernel_size]);
        depthwise_conv(x, w, b)
    };
    let parameters = [weight.flatten(0, 3), bias];
    compare(
        &format!("depthwise_conv {kernel_size}×{kernel_size}"),
        shape,
        parameters,
        definition,
        fused,
    );
}

/// LCE of V where it lies in QKV, added to a map beside it.
fn bench_lce([batch, height, width, channels]: [usize; 4]) {
    let device = Device::default();
    let parts = move |qkv: Tensor<4>| {
        (qkv.clone().narrow(3, 0, channels), qkv.narrow(3, 2 * channels, channels))
    };
    let weight = move |w: Tensor<1>| w.reshape([channels, 1, 5, 5]);
    let definition = |qkv: Tensor<4>, [w, b]: [Tensor<1>; 2]| {
        let (sum, value) = parts(qkv);
        sum + depthwise_conv_reference(value, weight(w), b)
    };
    let fused = |qkv: Tensor<4>, [w, b]: [Tensor<1>; 2]| {
        let (sum, value) = parts(qkv);
        depthwise_conv_add(value, weight(w), b, sum)
    };
    let parameters = [random([25 * channels], &device), random([channels], &device)];
    compare("lce 5×5", [batch, height, width, 3 * channels], parameters, definition, fused);
}

fn bench_layer_norm(shape: [usize; 4]) {
    let device = Device::default();
    let parameters = [random([shape[3]], &device), random([shape[3]], &device)];
    let definition = |x, [gamma, beta]: [Tensor<1>; 2]| layer_norm_reference(x, gamma, beta, 1e-6);
    let fused = |x, [gamma, beta]: [Tensor<1>; 2]| layer_norm(x, gamma, beta, 1e-6);
    compare("layer_norm", shape, parameters, definition, fused);
}

fn bench_gelu(shape: [usize; 4]) {
    let none = [Tensor::zeros([1], &Device::default()), Tensor::zeros([1], &Device::default())];
    compare("gelu", shape, none, |x, _| activation::gelu(x), |x, _| gelu(x));
}

fn compare(
    name: &str,
    shape: [usize; 4],
    parameters: [Tensor<1>; 2],
    definition: impl Fn(Tensor<4>, [Tensor<1>; 2]) -> Tensor<4>,
    fused: impl Fn(Tensor<4>, [Tensor<1>; 2]) -> Tensor<4>,
) {
    let x = random(shape, &Device::default());
    let difference =
        definition(x.clone(), parameters.clone()) - fused(x.clone(), parameters.clone());
    let largest: f32 = difference.abs().max().into_scalar();
    assert!(largest < 1e-4, "{name} {shape:?}: the fused operator is off by {largest}");

    let forward = |f: &dyn Fn(Tensor<4>, [Tensor<1>; 2]) -> Tensor<4>| {
        median(|| drop(f(x.clone(), parameters.clone())))
    };
    print_row(&format!("{name} {shape:?}"), forward(&definition), forward(&fused));
    let training = |f: &dyn Fn(Tensor<4>, [Tensor<1>; 2]) -> Tensor<4>| {
        median(|| {
            let x = x.clone().autodiff().require_grad();
            let parameters = parameters.clone().map(|p| p.autodiff().require_grad());
            drop(f(x, parameters).sum().backward());
        })
    };
    print_row("  forward and backward", training(&definition), training(&fused));
}

/// Median time in milliseconds, after a warm-up.
fn median(mut run: impl FnMut()) -> f64 {
    run();
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}

fn print_row(name: &str, definition: f64, fused: f64) {
    println!("{name:<40} {definition:>9.3} ms {fused:>9.3} ms {:>6.1}×", definition / fused);
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}
