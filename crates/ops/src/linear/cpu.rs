//! Linear layers of float32 on the CPU: rows for the product, and its gradients.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, TensorData};

use super::LinearOptions;
use crate::Precision;
use crate::columns::{Value, column_sums};
use crate::flex::{contiguous, tensor, values};
use crate::layer_norm::cpu::normalize_rows;
use crate::matmul::{self, Block, Epilogue, Matrix, Numbers, Panels, Rows};

/// Tokens whose products are added up in one go for the gradient of a weight.
const CHUNK: usize = 1024;

/// A weight `[dim_in, dim_out]` in panels.
pub(crate) fn pack(weight: &FlexTensor, precision: Precision) -> FlexTensor {
    let [dim_in, dim_out] = weight.layout().shape().dims();
    pack_rows(values(&contiguous(weight)), [dim_in, dim_out], precision)
}

/// The transposed weight, `[dim_out, dim_in]`, in panels.
pub(crate) fn pack_transposed(weight: &FlexTensor, precision: Precision) -> FlexTensor {
    let [dim_in, dim_out] = weight.layout().shape().dims();
    let weight = contiguous(weight);
    let block = Block { values: values(&weight), row_stride: 1, col_stride: dim_out };
    pack_block(block, [dim_out, dim_in], precision)
}

fn pack_rows(values: &[f32], [inner, columns]: [usize; 2], precision: Precision) -> FlexTensor {
    pack_block(Block { values, row_stride: columns, col_stride: 1 }, [inner, columns], precision)
}

/// `[panels, inner, width]`, or as pairs `[panels, inner / 2, 2 * width]`.
fn pack_block(block: Block, [inner, columns]: [usize; 2], precision: Precision) -> FlexTensor {
    let width = matmul::panel_width();
    let panels = columns.div_ceil(width);
    match precision {
        Precision::F32 => tensor(matmul::pack(block, inner, columns), [panels, inner, width]),
        Precision::Bf16 => {
            let pairs = matmul::pack_pairs(block, inner, columns);
            FlexTensor::from_data(TensorData::new(pairs, [panels, inner.div_ceil(2), 2 * width]))
        }
        Precision::F16 => unreachable!("`Precision::check` allows it on GPUs alone"),
    }
}

/// What was packed, of a matrix `inner × columns`.
pub(crate) fn panels(packed: &FlexTensor, inner: usize, columns: usize) -> Panels<'_> {
    let values = match packed.dtype() {
        DType::BF16 => Numbers::Bf16(packed.storage()),
        _ => Numbers::F32(values(packed)),
    };
    Panels { values, inner, columns }
}

/// See [`linear`](fn@crate::linear).
pub(crate) fn fused(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    [gamma, beta]: [&FlexTensor; 2],
    residual: &FlexTensor,
    options: LinearOptions,
) -> FlexTensor {
    let LinearOptions { dim_out, gelu, .. } = options;
    let x = contiguous(x);
    let bias = options.bias.then(|| contiguous(bias));
    let residual = options.residual.then(|| contiguous(residual));
    let residual = residual.as_ref().map(values);
    let bias = bias.as_ref().map(values);
    let epilogue = Epilogue { bias, gelu, residual, accumulate: false };
    let dim_in = channels(&x);
    let panels = panels(weight, dim_in, dim_out);
    let rows = x.layout().num_elements() / dim_in;
    let output = match options.norm {
        None => matmul::multiply(&matrix(&x, dim_in), panels, rows, &epilogue),
        Some(epsilon) => {
            let (gamma, beta) = (contiguous(gamma), contiguous(beta));
            let (gamma, beta) = (values(&gamma), values(&beta));
            let a = NormalizedRows { values: values(&x), gamma, beta, epsilon: epsilon as f32 };
            matmul::multiply(&a, panels, rows, &epilogue)
        }
    };
    tensor(output, output_shape(&x, dim_out))
}

/// x W + b
pub(crate) fn forward(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    precision: Precision,
) -> FlexTensor {
    let [_, dim_out] = weight.layout().shape().dims();
    let options = LinearOptions { dim_out, bias: true, norm: None, gelu: false, residual: false };
    fused(x, &pack(weight, precision), bias, [x, x], x, options)
}

/// Gradient of the input: grad Wᵀ.
pub(crate) fn backward_x(
    weight: &FlexTensor,
    grad: &FlexTensor,
    precision: Precision,
) -> FlexTensor {
    let [dim_in, dim_out] = weight.layout().shape().dims();
    let (weight, grad) = (pack_transposed(weight, precision), contiguous(grad));
    let panels = panels(&weight, dim_out, dim_in);
    let rows = grad.layout().num_elements() / dim_out;
    let output = matmul::multiply(&matrix(&grad, dim_out), panels, rows, &Epilogue::default());
    tensor(output, output_shape(&grad, dim_in))
}

/// Gradient of the weight: xᵀ grad.
pub(crate) fn backward_weight(
    x: &FlexTensor,
    grad: &FlexTensor,
    precision: Precision,
) -> FlexTensor {
    let (x, grad) = (contiguous(x), contiguous(grad));
    let (dim_in, dim_out) = (channels(&x), channels(&grad));
    let (x, grad) = (values(&x), values(&grad));
    let mut output = vec![0.0; dim_in * dim_out];
    for (x, grad) in x.chunks(CHUNK * dim_in).zip(grad.chunks(CHUNK * dim_out)) {
        add_products(&mut output, x, grad, [dim_in, dim_out], precision);
    }
    tensor(output, [dim_in, dim_out])
}

/// Adds xᵀ grad; x is `[tokens, dim_in]`, grad `[tokens, dim_out]`.
pub(crate) fn add_products(
    output: &mut [f32],
    x: &[f32],
    grad: &[f32],
    [dim_in, dim_out]: [usize; 2],
    precision: Precision,
) {
    let tokens = grad.len() / dim_out;
    let packed = pack_rows(grad, [tokens, dim_out], precision);
    let a = Matrix(Block { values: x, row_stride: 1, col_stride: dim_in });
    matmul::multiply_add(&a, panels(&packed, tokens, dim_out), dim_in, output);
}

/// Gradient of the bias: the sum over tokens.
pub(crate) fn backward_bias(grad: &FlexTensor) -> FlexTensor {
    let (grad, dim_out) = (contiguous(grad), channels(grad));
    tensor(column_sums(Value(values(&grad)), dim_out), [dim_out])
}

fn matrix(x: &FlexTensor, columns: usize) -> Matrix<'_> {
    Matrix(Block { values: values(x), row_stride: columns, col_stride: 1 })
}

fn channels(x: &FlexTensor) -> usize {
    *x.layout().shape().as_slice().last().expect("an axis")
}

fn output_shape(x: &FlexTensor, channels: usize) -> Vec<usize> {
    let mut shape = x.layout().shape().as_slice().to_vec();
    *shape.last_mut().expect("an axis") = channels;
    shape
}

/// Rows after a layer norm.
struct NormalizedRows<'a> {
    values: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    epsilon: f32,
}

impl Rows for NormalizedRows<'_> {
    fn block<'a>(&'a self, rows: Range<usize>, scratch: &'a mut Vec<f32>) -> Block<'a> {
        let Self { gamma, beta, epsilon, .. } = *self;
        let channels = gamma.len();
        let x = &self.values[rows.start * channels..rows.end * channels];
        scratch.resize(x.len(), 0.0);
        normalize_rows(x, gamma, beta, epsilon, scratch);
        Block { values: scratch, row_stride: channels, col_stride: 1 }
    }
}
