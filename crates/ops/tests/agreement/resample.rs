//! Maps of another size.

use biformer_ops::{Taps, resample, resample_reference};
use burn::tensor::{Device, Tensor};

use crate::{SUMS, assert_close, random};

/// Batch, height, width and channels; new height and width.
const SHAPES: [([usize; 4], [usize; 2]); 7] = [
    ([1, 4, 5, 16], [8, 10]),
    ([2, 7, 9, 20], [13, 17]),
    ([2, 13, 17, 3], [7, 9]),
    ([1, 1, 1, 33], [6, 4]),
    ([1, 6, 5, 1], [1, 1]),
    ([3, 5, 5, 7], [5, 10]),
    ([1, 3, 4, 150], [12, 16]),
];

#[test]
fn resampling_has_outputs_and_gradients_of_its_definition() {
    for (shape, [new_height, new_width]) in SHAPES {
        let [_, height, width, _] = shape;
        for (kind, taps) in [
            ("linear", Taps::linear as fn(usize, usize) -> Taps),
            ("cubic", Taps::cubic),
            ("nearest", Taps::nearest),
            ("means", Taps::means),
        ] {
            let (rows, cols) = (taps(height, new_height), taps(width, new_width));
            let x = random(shape);
            let coefficients = random([shape[0], new_height, new_width, shape[3]]);
            let run = |fused: bool| {
                let x = x.clone().autodiff().require_grad();
                let output = match fused {
                    true => resample(x.clone(), rows.clone(), cols.clone()),
                    false => resample_reference(x.clone(), &rows, &cols),
                };
                let gradients = (output.clone() * coefficients.clone().autodiff()).sum().backward();
                (output.inner(), x.grad(&gradients).expect("a gradient"))
            };
            let ((found, found_grad), (expected, expected_grad)) = (run(true), run(false));
            let what = format!("{kind} from {shape:?} to {new_height} × {new_width}");
            assert_close(&what, found.clone(), expected, SUMS);
            assert_close(&format!("{what}, gradient"), found_grad, expected_grad, SUMS);
            let without_gradients = resample(x, rows, cols);
            assert_close(&what, without_gradients, found, 0.0);
        }
    }
}

/// From 2 tokens to 4 places lie a quarter of a token beside one; with a = −0.75 its four neighbours have
/// (−27, 225, 67, −9) / 256, and what lies beyond the map is its border.
#[test]
fn cubic_weights_are_those_of_pytorch() {
    let x = Tensor::<4>::from_data([[[[0.0], [256.0]]]], &Device::default());
    let found = resample(x, Taps::cubic(1, 1), Taps::cubic(2, 4)).into_data_as::<f32>();
    let found: Vec<f32> = found.try_into_vec().expect("float32");
    // Exact: multiples of 1/256, all below 2²⁴.
    assert_eq!(found, [-27.0, 67.0 - 9.0, 225.0 - 27.0, 225.0 + 67.0 - 9.0]);
}

#[test]
#[should_panic(expected = "resample: got 4 × 5, expected [4, 6]")]
fn resampling_names_a_wrong_size() {
    resample(random([1, 4, 5, 2]), Taps::linear(4, 8), Taps::linear(6, 8));
}
