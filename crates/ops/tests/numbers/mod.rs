//! Tensors for tests: numbers that depend on the arguments alone, and their comparison.

use burn::tensor::{Device, Tensor, TensorData};

/// Numbers in [−1, 1) without a pattern.
pub fn numbers<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let count = shape.iter().product::<usize>() as u64;
    let number = |i: u64| {
        // splitmix64
        let mut z = (seed << 32 | i).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    };
    let data: Vec<f32> = (0..count).map(number).collect();
    Tensor::from_data(TensorData::new(data, shape), device)
}

/// The elements, row-major.
pub fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data_as::<f32>().try_into_vec().expect("float32")
}

/// Every element within `tolerance` of the expected one.
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: number of elements");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(error <= tolerance, "{what}: element {i} is {found}, expected {expected}");
    }
}
