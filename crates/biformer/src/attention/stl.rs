//! The attention mechanisms of the paper's comparison (Table 5), in Swin-T's layout (STL).
//!
//! A mechanism is a file with a module that implements [`BlockAttention`], and a line of the list below:
//! what can be configured, built and run follows from it.

use biformer_ops::Precision;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::block_attention::{BlockAttention, BlockPlace, Part};
use super::{
    AxialAttention, BlockGridAttention, CrissCrossAttention, CrossShapedAttention, DatAttention,
    FullAttention, QuadTreeAttention, ShiftedWindowAttention, SlidingWindowAttention,
    SpatiallySeparableAttention,
};

/// From the list of mechanisms: one enum of their names, one of their modules, and what goes from the one to
/// the other.
macro_rules! mechanisms {
    ($($(#[doc = $doc:literal])* $mechanism:ident($attention:ty) = $model:literal,)*) => {
        /// A mechanism of Table 5 beside bi-level routing attention.
        #[derive(Config, Debug, Copy, PartialEq, Eq)]
        pub enum StlMechanism { $($(#[doc = $doc])* $mechanism,)* }

        /// The attention of one block in Swin-T's layout.
        #[derive(Module, Debug)]
        #[allow(clippy::large_enum_variant)] // one of them in a block
        pub enum StlAttention { $($(#[doc = $doc])* $mechanism($attention),)* }

        /// The models that have such mechanisms, in the order of [`StlMechanism::ALL`].
        pub const STL_NAMES: [&str; [$($model),*].len()] = [$($model),*];

        impl StlMechanism {
            /// All there are.
            pub const ALL: [Self; STL_NAMES.len()] = [$(Self::$mechanism),*];
        }

        impl StlAttentionConfig {
            /// The attention with fresh weights.
            ///
            /// # Panics
            /// If the heads do not divide the channels.
            pub fn init(&self, device: &Device) -> StlAttention {
                match self.mechanism {
                    $(StlMechanism::$mechanism => {
                        StlAttention::$mechanism(BlockAttention::new(&self.place, device))
                    })*
                }
            }
        }

        impl StlAttention {
            /// Heads.
            pub fn num_heads(&self) -> usize {
                match self { $(Self::$mechanism(attention) => BlockAttention::num_heads(attention),)* }
            }

            /// # Shapes
            /// - x: `[batch, height, width, dim]`
            /// - output: like `x`
            pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
                match self { $(Self::$mechanism(attention) => BlockAttention::forward(attention, x),)* }
            }

            /// See [`BlockAttention::parts`].
            pub fn parts(&self, size: [usize; 2]) -> Vec<(&'static str, Part<'_>)> {
                match self { $(Self::$mechanism(attention) => attention.parts(size),)* }
            }

            /// See [`Linear::for_inference`](crate::layers::Linear::for_inference).
            pub fn for_inference(self, precision: Precision) -> Self {
                match self {
                    $(Self::$mechanism(attention) => {
                        Self::$mechanism(BlockAttention::for_inference(attention, precision))
                    })*
                }
            }
        }
    };
}

mechanisms! {
    /// Sliding windows (stand-alone self-attention).
    SlidingWindow(SlidingWindowAttention) = "stl_sliding_window",
    /// Shifted windows (Swin).
    ShiftedWindow(ShiftedWindowAttention) = "stl_shifted_window",
    /// Windows, then one token of each cell (Twins).
    SpatiallySeparable(SpatiallySeparableAttention) = "stl_spatially_separable",
    /// Rows, then columns (axial transformers).
    SequentialAxial(AxialAttention) = "stl_sequential_axial",
    /// Row and column at once (CCNet).
    CrissCross(CrissCrossAttention) = "stl_criss_cross",
    /// Vertical and horizontal stripes (CSWin).
    CrossShaped(CrossShapedAttention) = "stl_cross_shaped",
    /// Windows, then points that move (DAT).
    Deformable(DatAttention) = "stl_deformable",
    /// Windows, then grids (MaxViT).
    BlockGrid(BlockGridAttention) = "stl_block_grid",
    /// From coarse to fine (QuadTree-B).
    QuadTree(QuadTreeAttention) = "stl_quad_tree",
    /// All tokens.
    Full(FullAttention) = "stl_full",
}

/// Configuration of [`StlAttention`].
#[derive(Config, Debug)]
pub struct StlAttentionConfig {
    /// The mechanism.
    pub mechanism: StlMechanism,
    /// Where the block stands.
    pub place: BlockPlace,
}

impl StlMechanism {
    /// The mechanism of one of [`STL_NAMES`].
    pub fn of_model(name: &str) -> Option<Self> {
        let number = STL_NAMES.iter().position(|model| *model == name)?;
        Some(Self::ALL[number])
    }
}
