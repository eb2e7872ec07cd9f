//! Depthwise convolution of channels-last float32 maps: which task does what.
//!
//! The input is read where it is: a slice of a wider map (V in QKV) needs no copy. Rows of the
//! output go to tasks ([`convolve`](super::convolve)). For the gradients of the parameters
//! ([`correlate`](super::correlate)) the rows of the batch are cut into chunks by the shape alone
//! and the sums of the chunks are added in order, so that results do not depend on the number
//! of threads.

#![allow(unsafe_code, reason = "tasks write their rows of one output")]

use burn::backend::flex::FlexTensor;

use super::convolve::{BLOCK, Convolution, Residual};
use super::correlate::Correlation;
use crate::flex::{channels_last, contiguous, tensor, values as numbers};
use crate::parallel::{Target, for_each, part, tasks};
use crate::simd::{dispatch, lanes};

/// Multiply-adds of a task below which a thread costs more than it brings.
const TASK: usize = 1 << 17;
/// Pixels of a chunk: enough that adding up the chunks is nothing beside them.
const CHUNK: usize = 512;

/// See [`depthwise_conv_add`](fn@crate::depthwise_conv_add). A residual that nobody else holds
/// becomes the output.
pub(crate) fn forward(
    x: FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    residual: Option<FlexTensor>,
) -> FlexTensor {
    let taps = Taps::new(weight, Some(bias), false);
    let x = channels_last(x);
    let x = Map::new(&x);
    let Some(residual) = residual else { return convolve(x, &taps, None) };
    let mut residual = channels_last(residual);
    let map = Map::new(&residual);
    assert_eq!(map.shape(), x.shape(), "depthwise_conv: residual of another shape");
    let (values, strides, len) = (map.values.as_ptr(), map.strides, x.len());
    if residual.is_contiguous()
        && let Some(output) = residual.try_storage_mut::<f32>()
        && output.len() == len
    {
        let output = output.as_mut_ptr();
        run(x, &taps, Some(Residual { values: output, strides }), output);
        return residual;
    }
    convolve(x, &taps, Some(Residual { values, strides }))
}

/// Gradient of the input: the gradient of the output convolved with the mirrored kernel.
pub(crate) fn backward_x(weight: &FlexTensor, grad: &FlexTensor) -> FlexTensor {
    let grad = channels_last(grad.clone());
    convolve(Map::new(&grad), &Taps::new(weight, None, true), None)
}

/// Gradients of weight and bias.
pub(crate) fn backward_parameters(
    x: &FlexTensor,
    weight: &FlexTensor,
    grad: &FlexTensor,
) -> (FlexTensor, FlexTensor) {
    let (x, grad) = (channels_last(x.clone()), channels_last(grad.clone()));
    let (x, grad) = (Map::new(&x), Map::new(&grad));
    let [channels, _, size, _] = weight.layout().shape().dims();
    assert_eq!(x.shape(), grad.shape(), "depthwise_conv: gradient of another shape");
    assert_eq!(x.channels, channels, "depthwise_conv: weight of other channels");
    let packed = packed_len(channels, size);
    let rows = x.batch * x.height;
    let chunks = (rows * x.width).div_ceil(CHUNK);
    let blocks = channels.div_ceil(BLOCK);
    let mut sums = vec![0.0; packed * chunks.max(1)];
    let target = Target::new(sums.as_mut_ptr());
    for_each(chunks * blocks, |task| {
        let (chunk, block) = (task / blocks, task % blocks);
        let sums = target.at(chunk * packed);
        let rows = part(rows, chunks, chunk);
        let channels = block * BLOCK..channels.min((block + 1) * BLOCK);
        dispatch(Correlation { x, grad, size, sums, rows, channels });
    });
    let (total, others) = sums.split_at_mut(packed);
    for chunk in others.chunks_exact(packed.max(1)) {
        for (sum, value) in total.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    let lanes = lanes();
    let count = size * size;
    let at = |c: usize, tap: usize| total[(c / lanes * (1 + count) + tap) * lanes + c % lanes];
    let weight = (0..channels).flat_map(|c| (1..=count).map(move |tap| (c, tap)));
    let weight = weight.map(|(c, tap)| at(c, tap)).collect();
    let bias = (0..channels).map(|c| at(c, 0)).collect();
    (tensor(weight, [channels, 1, size, size]), tensor(bias, [channels]))
}

/// A channels-last map whose channels lie side by side.
#[derive(Clone, Copy)]
pub(super) struct Map<'a> {
    /// From the first number of the map on.
    values: &'a [f32],
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// Distances of pictures, rows and columns.
    pub strides: [usize; 3],
}

impl<'a> Map<'a> {
    /// # Panics
    /// If the tensor is not as [`channels_last`] gives it.
    fn new(tensor: &'a FlexTensor) -> Self {
        let layout = tensor.layout();
        let [batch, height, width, channels] = layout.shape().dims();
        let strides = std::array::from_fn(|i| layout.strides()[i] as usize);
        let map = Self {
            values: &tensor.storage()[layout.start_offset()..],
            batch,
            height,
            width,
            channels,
            strides,
        };
        let dims = [batch, height, width].into_iter();
        let last: usize = dims.zip(strides).map(|(n, stride)| n.saturating_sub(1) * stride).sum();
        assert!(map.len() == 0 || map.values.len() >= last + channels, "a map beyond its storage");
        map
    }

    fn shape(&self) -> [usize; 4] {
        [self.batch, self.height, self.width, self.channels]
    }

    fn len(&self) -> usize {
        self.shape().into_iter().product()
    }

    /// The channels of a pixel from one on.
    #[inline(always)]
    pub fn at(&self, n: usize, y: usize, column: usize, channel: usize) -> *const f32 {
        let [picture, row, pixel] = self.strides;
        self.values.as_ptr().wrapping_add(n * picture + y * row + column * pixel + channel)
    }
}

/// A kernel with channels side by side, and its bias before it:
/// `[channels / lanes, 1 + size · size, lanes]`, the last vector filled with zeros.
pub(super) struct Taps {
    values: Vec<f32>,
    pub size: usize,
}

impl Taps {
    fn new(weight: &FlexTensor, bias: Option<&FlexTensor>, mirrored: bool) -> Self {
        let weight = contiguous(weight);
        let [channels, _, size, _] = weight.layout().shape().dims();
        let weight = numbers(&weight);
        let (count, lanes) = (size * size, lanes());
        let mut values = vec![0.0; packed_len(channels, size)];
        let vectors = values.chunks_exact_mut((1 + count) * lanes);
        for (source, target) in weight[..channels * count].chunks(lanes * count).zip(vectors) {
            for (i, target) in target.chunks_exact_mut(lanes).skip(1).enumerate() {
                let i = if mirrored { count - 1 - i } else { i };
                for (target, tap) in target.iter_mut().zip(source[i..].iter().step_by(count)) {
                    *target = *tap;
                }
            }
        }
        if let Some(bias) = bias {
            let bias = contiguous(bias);
            let vectors = values.chunks_exact_mut((1 + count) * lanes);
            for (source, target) in numbers(&bias).chunks(lanes).zip(vectors) {
                target[..source.len()].copy_from_slice(source);
            }
        }
        Self { values, size }
    }

    /// Bias and taps of the vector that starts with `channel`.
    #[inline(always)]
    pub fn of(&self, channel: usize) -> *const f32 {
        self.values.as_ptr().wrapping_add(channel * (1 + self.size * self.size))
    }
}

fn packed_len(channels: usize, size: usize) -> usize {
    channels.next_multiple_of(lanes()) * (1 + size * size)
}

fn convolve(x: Map, taps: &Taps, residual: Option<Residual>) -> FlexTensor {
    let mut output: Vec<f32> = Vec::with_capacity(x.len());
    run(x, taps, residual, output.as_mut_ptr());
    // SAFETY: the rows cover the output.
    unsafe { output.set_len(x.len()) };
    tensor(output, x.shape())
}

fn run(x: Map, taps: &Taps, residual: Option<Residual>, output: *mut f32) {
    if x.len() == 0 {
        return;
    }
    assert!(taps.values.len() >= packed_len(x.channels, taps.size));
    let tasks = tasks(x.len() * taps.size * taps.size, TASK);
    // Whole pictures where there are enough, else the same number of blocks of each.
    let groups = tasks.min(x.batch);
    let blocks = tasks.div_ceil(groups).min(x.height);
    let output = Target::new(output);
    for_each(groups * blocks, |task| {
        for n in part(x.batch, groups, task / blocks) {
            let rows = part(x.height, blocks, task % blocks);
            dispatch(Convolution { x, taps, residual, output: output.at(0), n, rows });
        }
    });
}
