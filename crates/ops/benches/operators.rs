//! Every fused operator against its definition, in one run: medians of ten, answers checked
//! before they are timed. Run with `cargo bench --workspace --bench operators`.

use std::time::Instant;

use biformer_ops::{
    BiasedAttentionOptions, LinearFusion, RegionGrid, Roi, RoiAlignOptions, RoutedAttentionOptions,
    RoutingOptions, Taps, Weight, Window, batch_norm, batch_norm_reference, biased_attention,
    biased_attention_reference, convolution, convolution_reference, depthwise_conv,
    depthwise_conv_add, depthwise_conv_reference, gelu, global_attention, global_attention_traced,
    instruction_set, layer_norm, layer_norm_reference, linear, linear_reference, resample,
    resample_reference, roi_align, roi_align_reference, route, route_reference, routed_attention,
    routed_attention_traced,
};
use burn::tensor::{Device, Distribution, Tensor, activation};

const RUNS: usize = 10;

fn main() {
    println!("{} threads, {}", rayon::current_num_threads(), instruction_set());
    println!("{:<40} {:>12} {:>12} {:>7}", "operator", "definition", "fused", "ratio");
    // Batch, height, width, channels, n_win and topk of stages 1 to 3 of BiFormer-T at 224², and
    // of stage 1 at 800 × 1333.
    for ([batch, height, width, channels], n_win, topk) in [
        ([1, 56, 56, 64], 7, 1),
        ([1, 28, 28, 128], 7, 4),
        ([1, 14, 14, 256], 7, 16),
        ([8, 56, 56, 64], 7, 1),
        ([8, 28, 28, 128], 7, 4),
        ([8, 14, 14, 256], 7, 16),
        ([1, 208, 336, 64], 16, 4),
    ] {
        bench_routed_attention([batch, height, width, channels], n_win, topk);
    }
    // Stage 4.
    for batch in [1, 8] {
        bench_global_attention([batch, 7, 7, 512]);
    }
    // Shifted windows of Swin-T's stages 1 and 4 at 224², and the blocks with halos of sliding ones.
    bench_biased_attention([1, 64, 49, 96], 49, 3);
    bench_biased_attention([1, 1, 49, 768], 49, 24);
    bench_biased_attention([1, 64, 49, 96], 169, 3);
    // The widest and the narrowest product of each stage, and the embeddings, of BiFormer-T at 224².
    for (side, channels) in [(56, 64), (28, 128), (14, 256), (7, 512)] {
        bench_linear([1, side, side, channels], 3 * channels);
        bench_linear([1, side, side, 3 * channels], channels);
    }
    for (side, channels_in, channels_out) in
        [(224, 3, 32), (112, 32, 64), (56, 64, 128), (28, 128, 256), (14, 256, 512)]
    {
        bench_convolution([1, side, side, channels_in], channels_out, 2);
    }
    // Heads of segmentation at 512²: the finest of Semantic FPN, and how its levels grow.
    bench_convolution([1, 128, 128, 256], 128, 1);
    bench_resample([1, 64, 64, 128], 128);
    bench_resample([1, 128, 128, 150], 512);
    // Boxes and masks of Mask R-CNN at 800 × 1333.
    bench_roi_align([1, 200, 336, 256], 64, 7);
    bench_roi_align([1, 200, 336, 256], 16, 14);
    // Batch, side and channels of the stages of BiFormer-T at 224², and of nano at 64².
    let stages = [[56, 64], [28, 128], [14, 256], [7, 512]];
    let batches = [1, 8].map(|batch| stages.map(|[side, channels]| [batch, side, channels]));
    for [batch, side, channels] in batches.concat().into_iter().chain([[64, 16, 32]]) {
        for kernel_size in [3, 5] {
            bench_depthwise_conv([batch, side, side, channels], kernel_size);
        }
        bench_lce([batch, side, side, channels]);
        bench_layer_norm([batch, side, side, channels]);
        bench_batch_norm([batch, side, side, channels]);
        bench_gelu([batch, side, side, 3 * channels]);
    }
}

/// Batch, windows, queries and channels; a bias for each window.
fn bench_biased_attention(shape: [usize; 4], keys: usize, num_heads: usize) {
    let device = Device::default();
    let [batch, windows, queries, channels] = shape;
    let none = [Tensor::zeros([1], &device), Tensor::zeros([1], &device)];
    let scale = ((channels / num_heads) as f64).powf(-0.5);
    let options = BiasedAttentionOptions { num_heads, scale };
    let of_keys = [(); 2].map(|()| random([batch, windows, keys, channels], &device));
    let bias = random([windows, num_heads, queries, keys], &device);
    let run = |operator: fn(_, _, _, _, &_) -> Tensor<4>| {
        let ([key, value], bias) = (of_keys.clone(), bias.clone());
        move |query: Tensor<4>, _: [Tensor<1>; 2]| {
            let [key, value, bias] = [&key, &value, &bias].map(|x| match query.is_autodiff() {
                true => x.clone().autodiff().require_grad(),
                false => x.clone(),
            });
            operator(query, key, value, Some(bias), &options)
        }
    };
    let name = format!("biased_attention, {keys} keys");
    compare(&name, shape, none, run(biased_attention_reference), run(biased_attention));
}

/// Packed weights forward, plain ones in training.
fn bench_linear(shape: [usize; 4], dim_out: usize) {
    let device = Device::default();
    let [.., dim_in] = shape;
    let matrix = move |w: Tensor<1>| w.reshape([dim_in, dim_out]);
    let parameters = [random([dim_in * dim_out], &device), random([dim_out], &device)];
    let parameters = parameters.map(|parameter| parameter / (dim_in as f64).sqrt());
    let packed = Weight::Plain(matrix(parameters[0].clone())).pack();
    let definition = |x, [w, b]: [Tensor<1>; 2]| linear_reference::<4>(x, matrix(w), Some(b));
    let fused = |x: Tensor<4>, [w, b]: [Tensor<1>; 2]| {
        let weight = if x.is_autodiff() { Weight::Plain(matrix(w)) } else { packed.clone() };
        linear(x, &weight, Some(b), LinearFusion::default())
    };
    compare(&format!("linear to {dim_out}"), shape, parameters, definition, fused);
}

/// 3 × 3; packed weights forward, plain ones in training.
fn bench_convolution(shape: [usize; 4], channels_out: usize, stride: usize) {
    let device = Device::default();
    let window = Window { size: 3, stride, padding: 1 };
    let dim_in = 9 * shape[3];
    let matrix = move |w: Tensor<1>| w.reshape([dim_in, channels_out]);
    let parameters = [random([dim_in * channels_out], &device), random([channels_out], &device)];
    let parameters = parameters.map(|parameter| parameter / (dim_in as f64).sqrt());
    let packed = Weight::Plain(matrix(parameters[0].clone())).pack();
    let definition = |x, [w, b]: [Tensor<1>; 2]| convolution_reference(x, matrix(w), b, window);
    let fused = |x: Tensor<4>, [w, b]: [Tensor<1>; 2]| {
        let weight = if x.is_autodiff() { Weight::Plain(matrix(w)) } else { packed.clone() };
        convolution(x, &weight, b, window, false)
    };
    compare(&format!("convolution to {channels_out}"), shape, parameters, definition, fused);
}

/// Bilinear, to squares of `side` tokens.
fn bench_resample(shape: [usize; 4], side: usize) {
    let none = [Tensor::zeros([1], &Device::default()), Tensor::zeros([1], &Device::default())];
    let [_, height, width, _] = shape;
    let (rows, cols) = (Taps::linear(height, side), Taps::linear(width, side));
    let definition = |x, _| resample_reference(x, &rows, &cols);
    let fused = |x, _| resample(x, rows.clone(), cols.clone());
    compare(&format!("resample to {side}²"), shape, none, definition, fused);
}

/// Boxes of 56 to 112 pixels, as the finest level of a pyramid gets them.
fn bench_roi_align(shape: [usize; 4], boxes: usize, output_size: usize) {
    let none = [Tensor::zeros([1], &Device::default()), Tensor::zeros([1], &Device::default())];
    let options =
        RoiAlignOptions { output_size, spatial_scale: 0.25, sampling_ratio: 0, aligned: true };
    let roi = |i: usize| {
        let [left, top, side] = [i * 37 % 1200, i * 71 % 650, 56 + i * 13 % 57].map(|n| n as f32);
        Roi { picture: 0, xyxy: [left, top, left + side, top + side] }
    };
    let rois: Vec<Roi> = (0..boxes).map(roi).collect();
    let definition = |x, _| roi_align_reference(x, &rois, &options);
    let fused = |x, _| roi_align(x, &rois, &options);
    compare(&format!("roi_align {boxes} × {output_size}²"), shape, none, definition, fused);
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

fn bench_batch_norm(shape: [usize; 4]) {
    let device = Device::default();
    let parameters = [random([shape[3]], &device), random([shape[3]], &device)];
    let rows = [shape[..3].iter().product(), shape[3]];
    let definition = |x: Tensor<4>, [gamma, beta]: [Tensor<1>; 2]| {
        batch_norm_reference(x.reshape(rows), gamma, beta, 1e-5).0.reshape(shape)
    };
    let fused = |x: Tensor<4>, [gamma, beta]: [Tensor<1>; 2]| {
        batch_norm(x.reshape(rows), gamma, beta, 1e-5).0.reshape(shape)
    };
    compare("batch_norm", shape, parameters, definition, fused);
}

fn bench_routed_attention(shape: [usize; 4], n_win: usize, topk: usize) {
    let [_, height, width, channels] = shape;
    let grid = RegionGrid::pad_first(height, width, n_win);
    let [query, key, _] = qkv(shape);
    let routing = RoutingOptions { topk, ..RoutingOptions::default() };
    let graph = route(&query, &key, &grid, &routing);
    let scale = (channels as f64).powf(-0.5);
    let options = RoutedAttentionOptions { num_heads: channels / 32, scale, mask_padding: false };
    compare_attention(
        &format!("routed_attention {shape:?} k = {topk}"),
        shape,
        topk * grid.tokens(),
        |[q, k, v]| routed_attention_traced(q, k, v, graph.clone(), &grid, &options).output,
        |[q, k, v]| routed_attention(q, k, v, graph.clone(), &grid, &options),
    );
    let definition = median(|| drop(route_reference(&query, &key, &grid, &routing)));
    let fused = median(|| drop(route(&query, &key, &grid, &routing)));
    print_row("  route", definition, fused);
}

fn bench_global_attention(shape: [usize; 4]) {
    let [_, height, width, channels] = shape;
    let (num_heads, scale) = (channels / 64, (channels as f64).powf(-0.5));
    compare_attention(
        &format!("global_attention {shape:?}"),
        shape,
        height * width,
        |[q, k, v]| global_attention_traced(q, k, v, num_heads, scale).output,
        |[q, k, v]| global_attention(q, k, v, num_heads, scale),
    );
}

fn compare_attention(
    name: &str,
    shape: [usize; 4],
    keys: usize,
    definition: impl Fn([Tensor<4>; 3]) -> Tensor<4>,
    fused: impl Fn([Tensor<4>; 3]) -> Tensor<4>,
) {
    let qkv = qkv(shape);
    let largest: f32 = (definition(qkv.clone()) - fused(qkv.clone())).abs().max().into_scalar();
    assert!(largest < 1e-4, "{name}: the fused operator is off by {largest}");
    // Q Kᵀ and the product with V, each a multiplication and an addition.
    let gflop = 4e-9 * (shape.iter().product::<usize>() * keys) as f64;
    let forward = |f: &dyn Fn([Tensor<4>; 3]) -> Tensor<4>| median(|| drop(f(qkv.clone())));
    let time = forward(&fused);
    print_row(name, forward(&definition), time);
    let training = |f: &dyn Fn([Tensor<4>; 3]) -> Tensor<4>| {
        median(|| {
            let qkv = qkv.clone().map(|x| x.autodiff().require_grad());
            drop(f(qkv).sum().backward());
        })
    };
    let training_time = training(&fused);
    print_row("  forward and backward", training(&definition), training_time);
    // The backward pass computes Q Kᵀ again, dO Vᵀ, and three products for the gradients.
    let [forward, both] = [gflop / time, 3.5 * gflop / training_time].map(|rate| rate * 1e3);
    println!("  fused: {forward:.0} GFLOP/s, with backward {both:.0} GFLOP/s");
}

/// Query, key and value as a projection leaves them: slices of one map.
fn qkv([batch, height, width, channels]: [usize; 4]) -> [Tensor<4>; 3] {
    let qkv = random([batch, height, width, 3 * channels], &Device::default());
    [0, 1, 2].map(|i| qkv.clone().narrow(3, i * channels, channels))
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

/// Median time in milliseconds, after a warm-up. A GPU is waited for.
fn median(mut operator: impl FnMut()) -> f64 {
    let device = Device::default();
    let mut run = || {
        operator();
        device.sync().expect("operators that ran");
    };
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
