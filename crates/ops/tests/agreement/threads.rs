//! The same numbers, bit for bit, for any number of threads: exact resume rests on it.

use biformer_ops::{
    BiasedAttentionOptions, Roi, RoiAlignOptions, batch_norm, biased_attention, depthwise_conv,
    gelu, layer_norm, roi_align,
};
use burn::tensor::Tensor;

use crate::numbers::values;
use crate::random;

/// Outputs and gradients are the same numbers for any number of threads.
#[test]
fn threads_change_nothing() {
    let x = random([3, 29, 30, 72]);
    let vectors = [random([72]), random([72])];
    let kernels = [3, 5, 7].map(|size| random([72, 1, size, size]));
    let run = || -> Vec<Vec<u32>> {
        let norm = |x, [gamma, beta]: [Tensor<1>; 2]| layer_norm(x, gamma, beta, 1e-6);
        let mut results = bits_of_all(x.clone(), vectors.clone(), norm);
        for kernel in kernels.clone() {
            let convolve = |x, [scale, bias]: [Tensor<1>; 2]| {
                let kernel = kernel.clone().autodiff() * scale.reshape([72, 1, 1, 1]);
                depthwise_conv(x, kernel, bias)
            };
            results.extend(bits_of_all(x.clone(), vectors.clone(), convolve));
        }
        results.extend(bits_of_all(x.clone(), vectors.clone(), |x, [a, b]| {
            gelu(x) * (a + b).unsqueeze()
        }));
        results.extend(bits_of_all(x.clone(), vectors.clone(), |x, [gamma, beta]| {
            let x = x.reshape([3 * 29 * 30, 72]);
            batch_norm(x, gamma, beta, 1e-5).0.reshape([3, 29, 30, 72])
        }));
        results.extend(bits_of_all(x.clone(), vectors.clone(), |x, [scale, bias]| {
            let options = RoiAlignOptions {
                output_size: 7,
                spatial_scale: 0.5,
                sampling_ratio: 0,
                aligned: true,
            };
            let roi = |i: usize| {
                let start = i as f32;
                Roi { picture: i % 3, xyxy: [start, 2.0, start + 31.0, 20.0 + start] }
            };
            let rois: Vec<Roi> = (0..20).map(roi).collect();
            roi_align(x * scale.unsqueeze(), &rois, &options) + bias.unsqueeze()
        }));
        for windows in [1, 10] {
            // One bias for all windows, and one for each.
            results.extend(bits_of_all(x.clone(), vectors.clone(), |x, [scale, bias]| {
                let options = BiasedAttentionOptions { num_heads: 3, scale: 0.2 };
                let x = x.reshape([3, 10, 87, 72]) * scale.unsqueeze();
                let bias =
                    bias.reshape([1, 1, 1, 72]).slice_dim(3, 0..36).repeat(&[windows, 1, 87, 1]);
                let bias = Tensor::cat(vec![bias.clone(), bias.clone(), bias], 3);
                let bias = bias.slice_dim(3, 0..87);
                biased_attention(x.clone(), x.clone(), x, Some(bias), &options)
            }));
        }
        results
    };
    let with_threads = |threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(run)
    };
    let expected = with_threads(1);
    for threads in [2, 3] {
        assert!(with_threads(threads) == expected, "{threads} threads");
    }
}

/// The output of an operator and the gradients of its inputs under a loss without symmetry.
fn bits_of_all(
    x: Tensor<4>,
    vectors: [Tensor<1>; 2],
    operator: impl Fn(Tensor<4>, [Tensor<1>; 2]) -> Tensor<4>,
) -> Vec<Vec<u32>> {
    let x = x.autodiff().require_grad();
    let vectors = vectors.map(|vector| vector.autodiff().require_grad());
    let output = operator(x.clone(), vectors.clone());
    let gradients = output.clone().powi_scalar(3).sum().backward();
    let of_vectors = vectors.map(|vector| values(vector.grad(&gradients).expect("a gradient")));
    let [first, second] = of_vectors;
    let of_x = values(x.grad(&gradients).expect("a gradient"));
    let all = [values(output.inner()), of_x, first, second];
    all.map(|values| values.into_iter().map(f32::to_bits).collect()).into()
}
