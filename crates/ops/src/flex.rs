//! Tensors of the CPU backend as slices.

use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;

/// The same numbers side by side, row-major; without a copy if they already are.
pub(crate) fn contiguous(tensor: &FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor.clone() } else { tensor.to_contiguous() }
}

/// The same map with its channels side by side; without a copy if they already are.
pub(crate) fn channels_last(map: FlexTensor) -> FlexTensor {
    if leads_forward(&map) && map.layout().strides()[3] == 1 { map } else { map.to_contiguous() }
}

/// Whether the first number of a tensor is the first in memory, so that its strides are distances.
pub(crate) fn leads_forward(tensor: &FlexTensor) -> bool {
    tensor.layout().strides().iter().all(|&stride| stride >= 0)
}

/// The numbers of a contiguous tensor.
pub(crate) fn values(tensor: &FlexTensor) -> &[f32] {
    &tensor.storage()[tensor.layout().start_offset()..][..tensor.layout().num_elements()]
}

pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Vec<usize>>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.into()))
}
