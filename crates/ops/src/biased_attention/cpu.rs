//! Burn's tensors as the kernels see them, and how the work is cut into tasks.
//!
//! Forward, heads of windows are computed one by one. Backward, a task has some windows and one head, and
//! adds their gradients of the bias up by itself; how the windows are cut into tasks, and with it the order of the
//! sums, does not depend on the number of threads.

#![allow(unsafe_code, reason = "tasks write their own parts of outputs")]

use burn::backend::flex::FlexTensor;

use super::BiasedAttentionOptions;
use super::head::{Backward, Forward};
use crate::flex::{contiguous, tensor, values};
use crate::parallel::{Target, for_each, part, tasks};
use crate::routed_attention::cpu::Source;
use crate::routed_attention::layout::Map;
use crate::simd::dispatch;

/// Multiply-adds of a task below which a thread costs more than it brings.
const TASK: usize = 1 << 16;
/// Most tasks for each head whose gradients of one bias are added up in the end.
const GROUPS: usize = 16;

/// What the operator takes beside its tensors.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub(crate) num_heads: usize,
    pub(crate) scale: f32,
    pub(crate) has_bias: bool,
}

impl Options {
    pub(crate) fn new(options: &BiasedAttentionOptions) -> Self {
        let &BiasedAttentionOptions { num_heads, scale } = options;
        Self { num_heads, scale: scale as f32, has_bias: false }
    }
}

/// The tensors in memory.
pub(super) struct Problem<'a> {
    pub batch: usize,
    pub windows: usize,
    pub queries: usize,
    pub keys: usize,
    pub num_heads: usize,
    pub head_dim: usize,
    pub scale: f32,
    /// `[batch, windows, queries, channels]`
    pub query: Map<'a>,
    /// `[batch, windows, keys, channels]`
    pub key: Map<'a>,
    pub value: Map<'a>,
    pub bias: Option<Bias<'a>>,
}

/// `[windows or 1, num_heads, queries, keys]`
#[derive(Clone, Copy)]
pub(super) struct Bias<'a> {
    pub values: &'a [f32],
    pub windows: usize,
}

impl Problem<'_> {
    /// Channels.
    pub fn channels(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// The bias of a head in a window, `[queries, keys]`.
    pub fn bias(&self, window: usize, head: usize) -> Option<&[f32]> {
        let Bias { values, windows } = self.bias?;
        let window = if windows == 1 { 0 } else { window };
        let len = self.queries * self.keys;
        Some(&values[(window * self.num_heads + head) * len..][..len])
    }
}

/// The tensors with their numbers where the kernels can read them.
struct Sources {
    maps: [Source; 3],
    bias: Option<FlexTensor>,
    options: Options,
}

impl Sources {
    fn new(inputs: [&FlexTensor; 4], options: &Options) -> Self {
        let [query, key, value, bias] = inputs;
        let maps = [query, key, value].map(|map| Source::new(map, 0));
        Self { maps, bias: options.has_bias.then(|| contiguous(bias)), options: *options }
    }

    fn problem(&self) -> Problem<'_> {
        let [query, key, value] = &self.maps;
        let [batch, windows, queries, channels] = query.shape();
        let Options { num_heads, scale, .. } = self.options;
        let bias = self.bias.as_ref().map(|bias| {
            let shape: [usize; 4] = bias.layout().shape().dims();
            assert!([1, windows].contains(&shape[0]), "biased_attention: windows of the bias");
            Bias { values: values(bias), windows: shape[0] }
        });
        Problem {
            batch,
            windows,
            queries,
            keys: key.shape()[2],
            num_heads,
            head_dim: channels / num_heads,
            scale,
            query: query.map(),
            key: key.map(),
            value: value.map(),
            bias,
        }
    }
}

/// See [`biased_attention`](fn@crate::biased_attention); the tensors are query, key, value and bias.
pub(crate) fn forward(inputs: [&FlexTensor; 4], options: &Options) -> FlexTensor {
    let sources = Sources::new(inputs, options);
    let problem = &sources.problem();
    let Problem { batch, windows, queries, keys, num_heads, .. } = *problem;
    let channels = problem.channels();
    let len = batch * windows * queries * channels;
    let mut output: Vec<f32> = Vec::with_capacity(len);
    let target = Target::new(output.as_mut_ptr());
    let heads = batch * windows * num_heads;
    let count = tasks(2 * len * keys, TASK);
    for_each(count, |task| {
        dispatch(Forward { problem, heads: part(heads, count, task), output: target });
    });
    // SAFETY: all heads of all windows were written.
    unsafe { output.set_len(len) };
    tensor(output, [batch, windows, queries, channels])
}

/// The gradients of query, key, value and bias under that of the output.
pub(crate) fn backward(
    inputs: [&FlexTensor; 4],
    grad: &FlexTensor,
    options: &Options,
) -> [Option<FlexTensor>; 4] {
    let sources = Sources::new(inputs, options);
    let problem = &sources.problem();
    let grad = &Source::new(grad, 0);
    let Problem { batch, windows, queries, keys, num_heads, .. } = *problem;
    let lens = [queries, keys, keys].map(|tokens| batch * windows * tokens * problem.channels());
    let mut gradients = lens.map(Vec::<f32>::with_capacity);
    // Windows that share a bias are in one group, or the sums of several groups are added up in the end.
    let own_bias = problem.bias.is_some_and(|bias| bias.windows > 1);
    let groups = if own_bias { windows } else { GROUPS.min(batch * windows).max(1) };
    let bias_len = num_heads * queries * keys;
    let mut bias = vec![0.0; if problem.bias.is_some() { groups * bias_len } else { 0 }];
    let targets = gradients.each_mut().map(|values| Target::new(values.as_mut_ptr()));
    let bias_target = Target::new(bias.as_mut_ptr());
    for_each(groups * num_heads, |task| {
        let (group, head) = (task / num_heads, task % num_heads);
        let places: Vec<[usize; 2]> = if own_bias {
            (0..batch).map(|n| [n, group]).collect()
        } else {
            part(batch * windows, groups, group).map(|i| [i / windows, i % windows]).collect()
        };
        let bias = problem.bias.map(|_| bias_target.at(task * queries * keys));
        dispatch(Backward { problem, grad: grad.map(), head, places: &places, targets, bias });
    });
    for (gradient, len) in gradients.iter_mut().zip(lens) {
        // SAFETY: all heads of all windows were written.
        unsafe { gradient.set_len(len) };
    }
    let [query, key, value] = gradients;
    let bias = problem.bias.map(|_| {
        if !own_bias {
            let (sum, others) = bias.split_at_mut(bias_len);
            for other in others.chunks_exact(bias_len) {
                sum.iter_mut().zip(other).for_each(|(sum, x)| *sum += x);
            }
            bias.truncate(bias_len);
        }
        tensor(bias, [if own_bias { windows } else { 1 }, num_heads, queries, keys])
    });
    let map = |values, tokens| tensor(values, [batch, windows, tokens, problem.channels()]);
    [Some(map(query, queries)), Some(map(key, keys)), Some(map(value, keys)), bias]
}
