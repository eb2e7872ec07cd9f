//! What a block can hold as attention: channels-last maps in, channels-last maps out.

mod biased_attention;
mod bilinear_sampling;
mod block_attention;
mod block_grid;
mod bra;
mod cells;
mod criss_cross;
mod cross_shaped;
mod deformable;
mod full;
mod quad_tree;
mod relative_position;
mod sequential_axial;
mod shifted_window;
mod sliding_window;
mod spatially_separable;
mod stl;
mod window;
mod within_regions;

#[cfg(doctest)]
#[doc = include_str!("../../../../docs/add-a-mechanism.md")]
mod add_a_mechanism {}

pub use block_attention::{BlockAttention, BlockPlace, Part};
pub use block_grid::{BlockGridAttention, BlockGridConfig, Partition};
pub use bra::{BiLevelRoutingAttention, BraConfig, RegionRule};
pub use criss_cross::{CrissCrossAttention, CrissCrossConfig};
pub use cross_shaped::{CrossShapedAttention, CrossShapedConfig};
pub use deformable::{DatAttention, DeformableAttention, DeformableConfig, OffsetNetwork};
pub use full::{FullAttention, FullAttentionConfig, Lepe};
pub use quad_tree::{QuadTreeAttention, QuadTreeConfig, ValueBranch};
pub use sequential_axial::{AxialAttention, AxialAttentionConfig, Axis};
pub use shifted_window::{ShiftedWindowAttention, ShiftedWindowConfig};
pub use sliding_window::{SlidingWindowAttention, SlidingWindowConfig};
pub use spatially_separable::{
    GlobalSubSampledAttention, GlobalSubSampledConfig, SpatiallySeparableAttention, SubSampling,
};
pub use stl::{STL_NAMES, StlAttention, StlAttentionConfig, StlMechanism};
pub use window::{WindowAttention, WindowAttentionConfig};

use std::ops::Range;

use biformer_ops::{Precision, RegionGrid, RoutedAttentionOptions, routed_attention_weights};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use crate::layers::LayerNorm;

/// Configuration of [`Attention`].
#[derive(Config, Debug)]
pub enum AttentionConfig {
    /// Bi-level routing attention.
    Bra(BraConfig),
    /// Attention to all tokens.
    Full(FullAttentionConfig),
    /// Attention within windows.
    Window(WindowAttentionConfig),
    /// One of those that the paper compares with.
    Stl(StlAttentionConfig),
}

/// The attention of one block.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // some tens of them in a model
pub enum Attention {
    /// Bi-level routing attention (stages 1 to 3).
    Bra(BiLevelRoutingAttention),
    /// Attention to all tokens (stage 4).
    Full(FullAttention),
    /// Attention within windows (plain ViTs).
    Window(WindowAttention),
    /// One of those that the paper compares with.
    Stl(StlAttention),
}

/// What one attention did, for explanation and parity.
#[derive(Clone, Debug)]
pub struct AttentionTrace {
    /// `[batch, height, width, channels]`
    pub output: Tensor<4>,
    /// Regions and where they attended, if the attention cuts the map.
    pub routing: Option<Routing>,
    /// Q, padded to the regions: `[batch, rows * region_height, cols * region_width, channels]`
    pub query: Tensor<4>,
    /// K, like `query`.
    pub key: Tensor<4>,
    /// Heads and scale.
    pub options: RoutedAttentionOptions,
}

/// The routing of one bi-level routing attention; that of windows leads to themselves.
#[derive(Clone, Debug)]
pub struct Routing {
    /// How the map was cut into regions.
    pub grid: RegionGrid,
    /// I^r of Eq. 5, `[batch, regions, topk]`
    pub region_graph: Tensor<3, Int>,
}

impl AttentionTrace {
    /// How the map is cut. Attention to all tokens has one region, which attends to itself.
    pub fn grid(&self) -> RegionGrid {
        match &self.routing {
            Some(routing) => routing.grid,
            None => {
                let [_, height, width, _] = self.output.dims();
                RegionGrid::pad_first(height, width, 1)
            }
        }
    }

    /// The attention weights of some regions, by the definition. All of a large map are too many to
    /// hold together.
    ///
    /// # Shapes
    /// - output: `[batch * regions.len(), num_heads, tokens, topk * tokens]`; keys follow the order
    ///   of the region graph
    ///
    /// # Panics
    /// If there are no such regions.
    pub fn weights(&self, regions: Range<usize>) -> Tensor<4> {
        let region_graph = match &self.routing {
            Some(routing) => routing.region_graph.clone(),
            None => Tensor::zeros([self.output.dims()[0], 1, 1], &self.output.device()),
        };
        let (query, key) = (self.query.clone(), self.key.clone());
        routed_attention_weights(query, key, region_graph, &self.grid(), &self.options, regions)
    }
}

impl AttentionConfig {
    /// The attention with fresh weights.
    pub fn init(&self, device: &Device) -> Attention {
        match self {
            Self::Bra(config) => Attention::Bra(config.init(device)),
            Self::Full(config) => Attention::Full(config.init(device)),
            Self::Window(config) => Attention::Window(config.init(device)),
            Self::Stl(config) => Attention::Stl(config.init(device)),
        }
    }
}

impl Attention {
    /// Heads.
    pub fn num_heads(&self) -> usize {
        match self {
            Self::Bra(attention) => attention.config.num_heads,
            Self::Full(attention) => attention.config.num_heads,
            Self::Window(attention) => attention.config.num_heads,
            Self::Stl(attention) => attention.num_heads(),
        }
    }

    /// # Shapes
    /// - x: `[batch, height, width, channels]`
    /// - output: like `x`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Bra(attention) => attention.forward(x),
            Self::Full(attention) => attention.forward(x),
            Self::Window(attention) => attention.forward(x),
            Self::Stl(attention) => attention.forward(x),
        }
    }

    /// residual + attention(norm(x)); what is `None` is left out.
    pub fn forward_fused(
        &self,
        x: Tensor<4>,
        norm: Option<&LayerNorm>,
        residual: Option<Tensor<4>>,
    ) -> Tensor<4> {
        match self {
            Self::Bra(attention) => attention.forward_fused(x, norm, residual),
            Self::Full(attention) => attention.forward_fused(x, norm, residual),
            Self::Window(attention) => attention.forward_fused(x, norm, residual),
            Self::Stl(attention) => {
                let x = attention.forward(norm.map_or(x.clone(), |norm| norm.forward(x)));
                residual.map_or(x.clone(), |residual| residual + x)
            }
        }
    }

    /// See [`Linear::for_inference`](crate::layers::Linear::for_inference).
    pub fn for_inference(self, precision: Precision) -> Self {
        match self {
            Self::Bra(attention) => Self::Bra(attention.for_inference(precision)),
            Self::Full(attention) => Self::Full(attention.for_inference(precision)),
            Self::Window(attention) => Self::Window(attention.for_inference(precision)),
            Self::Stl(attention) => Self::Stl(attention.for_inference(precision)),
        }
    }

    /// [`Attention::forward`] with routing, queries and keys.
    ///
    /// # Panics
    /// If it is one of Table 5, which keep no trace; see
    /// [`BiFormerConfig::is_traceable`](crate::models::BiFormerConfig::is_traceable).
    pub fn forward_traced(&self, x: Tensor<4>) -> AttentionTrace {
        match self {
            Self::Bra(attention) => attention.forward_traced(x),
            Self::Full(attention) => attention.forward_traced(x),
            Self::Window(attention) => attention.forward_traced(x),
            Self::Stl(_) => {
                panic!("forward_traced: got: an attention of Table 5, expected: BRA or full")
            }
        }
    }
}
