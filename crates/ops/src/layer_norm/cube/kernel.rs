//! Layer norm of the rows of a matrix, and its gradients.
//!
//! A plane has a row, neighbouring units neighbouring vectors of it; where units of a plane cannot add what
//! they have, each unit has a row of its own. A row is read again for each sum: it is in the cache.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// # Shapes
/// - x, output: `[.., channels]`, contiguous
/// - gamma, beta: `[channels]`
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "a kernel takes no options")]
pub(super) fn normalize<E: Float, O: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    gamma: &Tensor<Vector<E, N>>,
    beta: &Tensor<Vector<E, N>>,
    output: &mut Tensor<Vector<O, N>>,
    epsilon: f32,
    #[comptime] has_planes: bool,
    #[define(E, O)] _types: [ElemType; 2],
) {
    let row = Row::new(x, &units(has_planes));
    let (mean, scale) = moments(x, &row, epsilon, has_planes);
    if row.exists {
        let mut c = row.first;
        while c < row.vectors {
            let normalized = (value(x, row.start + c) - Vector::new(mean)) * Vector::new(scale);
            let y = normalized * value(gamma, c) + value(beta, c);
            output[row.start + c] = Vector::cast_from(y);
            c += row.units;
        }
    }
}

/// With x̂ the normalised row, σ its scale and g = ∂y ∘ gamma: ∂x = (g − mean(g) − x̂ mean(g ∘ x̂)) / σ.
///
/// # Shapes
/// - x, grad, grad_x: `[.., channels]`, contiguous
/// - gamma: `[channels]`
/// - all_moments: `[rows, 2]`, mean and 1 / σ
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "a kernel takes no options")]
pub(super) fn input_gradient<E: Float, O: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    gamma: &Tensor<Vector<E, N>>,
    grad: &Tensor<Vector<O, N>>,
    grad_x: &mut Tensor<Vector<E, N>>,
    all_moments: &mut Tensor<f32>,
    epsilon: f32,
    #[comptime] has_planes: bool,
    #[define(E, O)] _types: [ElemType; 2],
) {
    let row = Row::new(x, &units(has_planes));
    let (mean, scale) = moments(x, &row, epsilon, has_planes);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut sum_with_x = Vector::<f32, N>::new(0.0f32);
    if row.exists {
        let mut c = row.first;
        while c < row.vectors {
            let normalized = (value(x, row.start + c) - Vector::new(mean)) * Vector::new(scale);
            let factor = value(grad, row.start + c) * value(gamma, c);
            sum += factor;
            sum_with_x += factor * normalized;
            c += row.units;
        }
    }
    let count = f32::cast_from(row.vectors * x.vector_size());
    let mean_grad = total(sum.vector_sum(), has_planes) / count;
    let mean_with_x = total(sum_with_x.vector_sum(), has_planes) / count;
    if row.exists {
        let mut c = row.first;
        while c < row.vectors {
            let normalized = (value(x, row.start + c) - Vector::new(mean)) * Vector::new(scale);
            let factor = value(grad, row.start + c) * value(gamma, c);
            let centred = factor - Vector::new(mean_grad) - normalized * Vector::new(mean_with_x);
            grad_x[row.start + c] = Vector::cast_from(centred * Vector::new(scale));
            c += row.units;
        }
        if row.first == 0 {
            all_moments[row.number * 2] = mean;
            all_moments[row.number * 2 + 1] = scale;
        }
    }
}

/// One unit = `rows` rows, as many channels as a vector has.
///
/// # Shapes
/// - x, grad: `[.., channels]`, contiguous
/// - all_moments: `[rows, 2]`, mean and 1 / σ
/// - partial: `[chunks, 2, channels]`, gradients of gamma and of beta
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn parameter_gradients<E: Float, O: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    grad: &Tensor<Vector<O, N>>,
    all_moments: &Tensor<f32>,
    partial: &mut Tensor<Vector<f32, N>>,
    rows: u32,
    #[define(E, O)] _types: [ElemType; 2],
) {
    let vectors = partial.shape(2) / x.vector_size();
    if ABSOLUTE_POS >= partial.shape(0) * vectors {
        terminate!();
    }
    let c = ABSOLUTE_POS % vectors;
    let chunk = ABSOLUTE_POS / vectors;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut sum_with_x = Vector::<f32, N>::new(0.0f32);
    let mut row = chunk * rows as usize;
    let mut end = row + rows as usize;
    let all = all_moments.shape(0);
    end = select(end < all, end, all);
    while row < end {
        let (mean, scale) = (all_moments[row * 2], all_moments[row * 2 + 1]);
        let normalized = (value(x, row * vectors + c) - Vector::new(mean)) * Vector::new(scale);
        let factor = value(grad, row * vectors + c);
        sum += factor;
        sum_with_x += factor * normalized;
        row += 1;
    }
    partial[chunk * 2 * vectors + c] = sum_with_x;
    partial[(chunk * 2 + 1) * vectors + c] = sum;
}

/// A row and its units, in vectors.
#[derive(CubeType, Clone, Copy)]
struct Row {
    number: usize,
    /// Of the row in the matrix.
    start: usize,
    vectors: usize,
    /// Of the unit in the row, and how many units there are.
    first: usize,
    units: usize,
    /// Planes without a row wait with the others of their cube.
    exists: bool,
}

#[cube]
impl Row {
    fn new<E: Float, N: Size>(x: &Tensor<Vector<E, N>>, units: &Units) -> Row {
        let vectors = x.shape(x.rank() - 1) / x.vector_size();
        let number = ABSOLUTE_POS / units.count;
        let start = number * vectors;
        Row {
            number,
            start,
            vectors,
            first: units.number,
            units: units.count,
            exists: start < x.len(),
        }
    }
}

/// The units that share a row.
#[derive(CubeType, Clone, Copy)]
struct Units {
    number: usize,
    count: usize,
}

#[cube]
fn units(#[comptime] has_planes: bool) -> Units {
    if comptime!(has_planes) {
        Units { number: UNIT_POS_PLANE as usize, count: PLANE_DIM as usize }
    } else {
        Units { number: 0usize, count: 1usize }
    }
}

#[cube]
fn value<E: Float, N: Size>(map: &Tensor<Vector<E, N>>, place: usize) -> Vector<f32, N> {
    Vector::cast_from(map[place])
}

/// Mean of a row, and one over its standard deviation.
#[cube]
fn moments<E: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    row: &Row,
    epsilon: f32,
    #[comptime] has_planes: bool,
) -> (f32, f32) {
    let count = f32::cast_from(row.vectors * x.vector_size());
    let mut sum = Vector::<f32, N>::new(0.0f32);
    if row.exists {
        let mut c = row.first;
        while c < row.vectors {
            sum += value(x, row.start + c);
            c += row.units;
        }
    }
    let mean = total(sum.vector_sum(), has_planes) / count;
    let mut squares = Vector::<f32, N>::new(0.0f32);
    if row.exists {
        let mut c = row.first;
        while c < row.vectors {
            let centred = value(x, row.start + c) - Vector::new(mean);
            squares += centred * centred;
            c += row.units;
        }
    }
    let variance = total(squares.vector_sum(), has_planes) / count;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// The sum of what the units of a row have.
#[cube]
fn total(summand: f32, #[comptime] has_planes: bool) -> f32 {
    if comptime!(has_planes) { plane_sum(summand) } else { summand }
}
