//! Burn's tensors as the kernels see them.

use burn::backend::flex::FlexTensor;
use burn::tensor::{Int, Tensor};

use super::backward::{self, Saved};
use super::layout::{Map, Problem};
use super::{RoutedAttentionOptions, forward, tile};
use crate::RegionGrid;
use crate::flex::{channels_last, tensor};

/// Who attends to whom: what the operator takes beside its tensors.
#[derive(Clone, Debug)]
pub struct Routing {
    /// `[batch, regions, topk]`, each below the number of regions.
    pub(crate) region_graph: Vec<usize>,
    pub(crate) topk: usize,
    pub(crate) grid: RegionGrid,
    pub(crate) options: RoutedAttentionOptions,
}

/// See [`routed_attention`](fn@crate::routed_attention).
pub(crate) fn forward(
    query: &FlexTensor,
    key: &FlexTensor,
    value: &FlexTensor,
    routing: &Routing,
) -> FlexTensor {
    forward_with_sums(query, key, value, routing, false).0
}

/// [`forward`] with the binary logarithms of the sums of exponentials if `log_sums`.
pub(crate) fn forward_with_sums(
    query: &FlexTensor,
    key: &FlexTensor,
    value: &FlexTensor,
    routing: &Routing,
    log_sums: bool,
) -> (FlexTensor, Vec<f32>) {
    let [query, key, value] = [query, key, value].map(|map| Source::new(map, routing.slack(map)));
    let problem = routing.problem(&query, &key, &value);
    let (output, log_sums) = forward::attend(&problem, log_sums);
    (tensor(output, query.shape()), log_sums)
}

/// The gradients of query, key and value under the gradient of the output.
pub(crate) fn backward(
    inputs: &[FlexTensor; 3],
    routing: &Routing,
    output: &FlexTensor,
    log_sums: &[f32],
    grad: &FlexTensor,
) -> [FlexTensor; 3] {
    let [query, key, value] = inputs.each_ref().map(|map| Source::new(map, routing.slack(map)));
    let [output, grad] = [output, grad].map(|map| Source::new(map, routing.slack(map)));
    let problem = routing.problem(&query, &key, &value);
    let saved = Saved { output: output.map(), log_sums };
    let gradients = backward::gradients(&problem, &saved, grad.map());
    gradients.map(|gradient| tensor(gradient, query.shape()))
}

impl Routing {
    pub(crate) fn new(
        region_graph: Tensor<3, Int>,
        grid: &RegionGrid,
        options: &RoutedAttentionOptions,
    ) -> Self {
        let [_, _, topk] = region_graph.dims();
        let regions = region_graph.into_data_as::<i64>().try_into_vec::<i64>().expect("integers");
        let region_graph = regions.into_iter().map(|region| region as usize).collect();
        Self { region_graph, topk, grid: *grid, options: *options }
    }

    /// Numbers behind a head that the kernels read along with it.
    fn slack(&self, map: &FlexTensor) -> usize {
        let [.., channels]: [usize; 4] = map.layout().shape().dims();
        tile::slack(channels / self.options.num_heads)
    }

    fn problem<'a>(&'a self, query: &'a Source, key: &'a Source, value: &'a Source) -> Problem<'a> {
        let [batch, height, width, channels] = query.shape();
        let regions = self.grid.regions();
        // The kernels do not check what they read.
        assert!(self.topk > 0, "routed_attention: got topk 0, expected at least 1");
        assert_eq!([height, width], self.grid.padded_size(), "routed_attention: size of the map");
        assert_eq!(self.region_graph.len(), batch * regions * self.topk, "routed_attention: graph");
        assert!(
            self.region_graph.iter().all(|&region| region < regions),
            "routed_attention: regions"
        );
        for other in [key, value] {
            assert_eq!(other.shape(), query.shape(), "routed_attention: key and value");
        }
        Problem {
            batch,
            num_heads: self.options.num_heads,
            head_dim: channels / self.options.num_heads,
            scale: self.options.scale as f32,
            grid: &self.grid,
            region_graph: &self.region_graph,
            topk: self.topk,
            mask_padding: self.options.mask_padding && self.grid.is_padded(),
            query: query.map(),
            key: key.map(),
            value: value.map(),
        }
    }
}

/// A map whose channels lie side by side, with numbers behind its last token that may be read.
pub(crate) struct Source {
    tensor: FlexTensor,
    /// A copy, where the tensor ends with its last token.
    longer: Option<Vec<f32>>,
}

impl Source {
    /// A map behind whose last token at least `slack` numbers can be read.
    pub fn new(tensor: &FlexTensor, slack: usize) -> Self {
        let source = Self { tensor: channels_last(tensor.clone()), longer: None };
        let (shape, strides) = (source.shape(), source.strides());
        let last: usize = (0..3).map(|i| shape[i].saturating_sub(1) * strides[i]).sum();
        let longer = (source.values().len() < last + shape[3] + slack).then(|| {
            let mut values = source.values().to_vec();
            values.resize(last + shape[3] + slack, 0.0);
            values
        });
        Self { longer, ..source }
    }

    pub fn shape(&self) -> [usize; 4] {
        self.tensor.layout().shape().dims()
    }

    fn strides(&self) -> [usize; 3] {
        std::array::from_fn(|i| self.tensor.layout().strides()[i] as usize)
    }

    fn values(&self) -> &[f32] {
        &self.tensor.storage()[self.tensor.layout().start_offset()..]
    }

    pub fn map(&self) -> Map<'_> {
        let values = self.longer.as_deref().unwrap_or_else(|| self.values());
        Map { values, strides: self.strides() }
    }
}
