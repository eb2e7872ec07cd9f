//! Boxes cut out of maps: fused against the definition, and both against points in loops.

use biformer_ops::{Roi, RoiAlignOptions, roi_align, roi_align_reference};
use burn::tensor::Tensor;

use crate::numbers::values;
use crate::{SUMS, assert_close, random};

/// Batch, height, width and channels.
const SHAPES: [[usize; 4]; 4] = [[2, 12, 17, 20], [1, 1, 1, 33], [3, 5, 9, 3], [1, 40, 6, 16]];

/// Boxes on a map at a quarter of its size: within it, over its edges, outside, of no area, turned round, of
/// several pictures.
fn rois([batch, height, width, _]: [usize; 4]) -> Vec<Roi> {
    let (right, bottom) = (4.0 * width as f32, 4.0 * height as f32);
    let boxes = [
        [0.0, 0.0, right, bottom],
        [0.3 * right, 0.2 * bottom, 0.5 * right, 0.9 * bottom],
        [-0.2 * right, -3.0, 0.7 * right, 1.4 * bottom],
        [0.41 * right, 0.52 * bottom, 0.43 * right, 0.55 * bottom],
        [2.0 * right, 0.0, 3.0 * right, bottom],
        [0.5 * right, 0.5 * bottom, 0.5 * right, 0.5 * bottom],
        [0.6 * right, 0.1 * bottom, 0.2 * right, 0.8 * bottom],
        [right - 1.0, bottom - 1.0, right, bottom],
        [-1000.0, -1000.0, 1000.0, 1000.0],
    ];
    let roi = |(i, xyxy)| Roi { picture: (i + 1) % batch, xyxy };
    boxes.into_iter().enumerate().map(roi).collect()
}

fn all_options() -> Vec<RoiAlignOptions> {
    let mut all = Vec::new();
    for (output_size, sampling_ratio) in [(7, 0), (7, 2), (14, 0), (3, 1), (1, 3), (2, 0)] {
        for aligned in [false, true] {
            let spatial_scale = 0.25;
            all.push(RoiAlignOptions { output_size, spatial_scale, sampling_ratio, aligned });
        }
    }
    all
}

#[test]
fn roi_align_has_outputs_and_gradients_of_its_definition() {
    for shape in SHAPES {
        let rois = rois(shape);
        for options in all_options() {
            let x = random(shape);
            let size = options.output_size;
            let coefficients = random([rois.len(), size, size, shape[3]]);
            let run = |f: fn(Tensor<4>, &[Roi], &RoiAlignOptions) -> Tensor<4>| {
                let x = x.clone().autodiff().require_grad();
                let output = f(x.clone(), &rois, &options);
                let gradients = (output.clone() * coefficients.clone().autodiff()).sum().backward();
                (output.inner(), x.grad(&gradients).expect("a gradient"))
            };
            let (found, found_grad) = run(roi_align);
            let (expected, expected_grad) = run(roi_align_reference);
            let what = format!("{options:?} of {shape:?}");
            assert_close(&what, found.clone(), expected, SUMS);
            assert_close(&format!("{what}, gradient"), found_grad, expected_grad, SUMS);
            assert_close(&what, roi_align(x, &rois, &options), found, 0.0);
        }
    }
}

#[test]
fn roi_align_agrees_with_points_in_loops() {
    for shape in SHAPES {
        let rois = rois(shape);
        for options in all_options() {
            let x = random(shape);
            let expected = points(&values(x.clone()), shape, &rois, &options);
            let expected = Tensor::<1>::from_floats(expected.as_slice(), &x.device());
            let size = options.output_size;
            let expected = expected.reshape([rois.len(), size, size, shape[3]]);
            // Places are rounded to 2⁻²⁴ of up to 1000 tokens: 6e-5, times differences of neighbours.
            let what = format!("{options:?} of {shape:?}");
            assert_close(&what, roi_align(x, &rois, &options), expected, 2e-4);
        }
    }
}

#[test]
fn roi_align_reads_permuted_maps() {
    let x = random([2, 6, 5, 9]).permute([0, 2, 3, 1]);
    let options =
        RoiAlignOptions { output_size: 4, spatial_scale: 1.0, sampling_ratio: 0, aligned: true };
    let rois = [Roi { picture: 1, xyxy: [0.5, 1.0, 7.5, 4.0] }];
    let expected = roi_align_reference(x.clone(), &rois, &options);
    assert_close("permuted", roi_align(x, &rois, &options), expected, SUMS);
}

#[test]
fn boxes_without_points_are_zero_and_no_boxes_are_nothing() {
    let x = random([1, 4, 5, 6]);
    let options =
        RoiAlignOptions { output_size: 2, spatial_scale: 1.0, sampling_ratio: 0, aligned: true };
    let outside = Roi { picture: 0, xyxy: [7.0, 0.0, 9.0, 4.0] };
    let of_no_area = Roi { picture: 0, xyxy: [2.0, 1.0, 2.0, 3.0] };
    let output = roi_align(x.clone(), &[outside, of_no_area], &options);
    assert_eq!(values(output), [0.0; 2 * 2 * 2 * 6]);
    for f in [roi_align, roi_align_reference] {
        assert_eq!(f(x.clone(), &[], &options).dims(), [0, 2, 2, 6]);
        let tracked = x.clone().autodiff().require_grad();
        let gradients =
            (f(tracked.clone(), &[outside], &options).sum() + tracked.clone().sum()).backward();
        assert_eq!(values(tracked.grad(&gradients).expect("that of its sum")), [1.0; 4 * 5 * 6]);
    }
}

#[test]
#[should_panic(expected = "roi_align: got picture 2, expected less than 2")]
fn roi_align_names_a_picture_that_is_not_there() {
    let options =
        RoiAlignOptions { output_size: 2, spatial_scale: 1.0, sampling_ratio: 0, aligned: true };
    roi_align(random([2, 4, 5, 1]), &[Roi { picture: 2, xyxy: [0.0, 0.0, 1.0, 1.0] }], &options);
}

/// The mean over the points of each bin, each between its four tokens; in float64.
fn points(
    map: &[f32],
    [_, height, width, channels]: [usize; 4],
    rois: &[Roi],
    options: &RoiAlignOptions,
) -> Vec<f32> {
    let size = options.output_size;
    let offset = if options.aligned { 0.5 } else { 0.0 };
    let points = |bin: f64| match options.sampling_ratio {
        0 => bin.ceil() as usize,
        ratio => ratio,
    };
    let mut output = Vec::new();
    for roi in rois {
        let [left, top, right, bottom] =
            roi.xyxy.map(|edge| f64::from(edge * options.spatial_scale) - offset);
        let [bin_width, bin_height] = [right - left, bottom - top]
            .map(|side| if options.aligned { side } else { side.max(1.0) } / size as f64);
        let (cols, rows) = (points(bin_width), points(bin_height));
        for (bin, channel) in (0..size * size).flat_map(|bin| (0..channels).map(move |c| (bin, c)))
        {
            let value = |row: usize, col: usize| {
                f64::from(map[((roi.picture * height + row) * width + col) * channels + channel])
            };
            let mut sum = 0.0;
            for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
                let in_bin = |point: usize, points: usize| (point as f64 + 0.5) / points as f64;
                let y = top + ((bin / size) as f64 + in_bin(row, rows)) * bin_height;
                let x = left + ((bin % size) as f64 + in_bin(col, cols)) * bin_width;
                sum += between(y, x, [height, width], value);
            }
            output.push((sum / (rows * cols).max(1) as f64) as f32);
        }
    }
    output
}

/// Bilinear between the four tokens around a point.
fn between(
    y: f64,
    x: f64,
    [height, width]: [usize; 2],
    value: impl Fn(usize, usize) -> f64,
) -> f64 {
    if y < -1.0 || y > height as f64 || x < -1.0 || x > width as f64 {
        return 0.0;
    }
    let [y, x] = [(y, height), (x, width)].map(|(place, n)| place.clamp(0.0, (n - 1) as f64));
    let (top, left) = (y as usize, x as usize);
    let (below, beside) = ((top + 1).min(height - 1), (left + 1).min(width - 1));
    let [down, right] = [y.fract(), x.fract()];
    (1.0 - down) * ((1.0 - right) * value(top, left) + right * value(top, beside))
        + down * ((1.0 - right) * value(below, left) + right * value(below, beside))
}
