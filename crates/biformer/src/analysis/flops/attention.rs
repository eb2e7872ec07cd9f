//! The layers of attentions, counted as in [`flops`](super).

use biformer_ops::profile::Class;
use burn::module::Module;

use super::Counter;
use crate::attention::{
    BiLevelRoutingAttention, FullAttention, Part, RegionRule, StlAttention, WindowAttention,
};
use crate::classification::ClassBlock;

impl Counter {
    pub(super) fn bra(
        &mut self,
        name: &str,
        attention: &BiLevelRoutingAttention,
        [height, width]: [usize; 2],
    ) {
        let part = |part: &str| format!("{name}.{part}");
        let grid = attention.config.grid(height, width);
        let [padded_height, padded_width] = grid.padded_size();
        let projected = match attention.config.region_rule {
            RegionRule::PadFirst => padded_height * padded_width,
            RegionRule::Floor => height * width,
        };
        let (regions, tokens, dim) = (grid.regions(), grid.tokens(), attention.config.dim);
        let topk = attention.config.topk.min(regions);
        let (map, graph) = (padded_height * padded_width * dim, regions * topk);
        self.linear(&part("qkv"), &attention.qkv, projected);
        self.depthwise(&part("lce"), &attention.lce, projected);
        if attention.has_fused_lce(&grid) {
            self.is_part_of(Class::RoutedAttention);
        }
        // Eq. 4 and 5: reads Q and K
        self.product(&part("routing"), Class::Routing, regions * regions * dim, 2 * map + graph);
        // Eq. 7: reads Q, K and V
        let macs = 2 * regions * tokens * topk * tokens * dim;
        self.product(&part("attention"), Class::RoutedAttention, macs, 4 * map + graph);
        self.linear(&part("output"), &attention.output, height * width);
    }

    pub(super) fn full(
        &mut self,
        name: &str,
        attention: &FullAttention,
        [height, width]: [usize; 2],
    ) {
        let part = |part: &str| format!("{name}.{part}");
        let tokens = height * width;
        self.linear(&part("qkv"), &attention.qkv, tokens);
        if let Some(conv) = &attention.lce {
            self.depthwise(&part("lce"), conv, tokens);
            self.moves(tokens * attention.config.dim); // the attended values, which it adds
        }
        let dim = attention.config.dim;
        let macs = 2 * tokens * tokens * dim;
        self.product(&part("attention"), Class::GlobalAttention, macs, 4 * tokens * dim);
        self.linear(&part("output"), &attention.output, tokens);
    }

    /// Every window is as large as the first: what fills up the last ones costs as much.
    pub(super) fn window(
        &mut self,
        name: &str,
        attention: &WindowAttention,
        [height, width]: [usize; 2],
    ) {
        let part = |part: &str| format!("{name}.{part}");
        let grid = attention.config.grid(height, width);
        let (tokens, padded) = (height * width, grid.regions() * grid.tokens());
        let dim = attention.config.dim;
        self.linear(&part("qkv"), &attention.qkv, tokens);
        let macs = 2 * padded * grid.tokens() * dim;
        self.product(&part("attention"), Class::RoutedAttention, macs, 4 * padded * dim);
        self.linear(&part("output"), &attention.output, tokens);
    }

    /// Whatever it is made of.
    pub(super) fn stl(&mut self, name: &str, attention: &StlAttention, size: [usize; 2]) {
        for (part, what) in attention.parts(size) {
            let name = format!("{name}.{part}");
            match what {
                Part::Linear(linear, tokens) => self.linear(&name, linear, tokens),
                Part::Conv(conv, tokens) => self.conv(&name, conv, tokens),
                Part::DepthwiseConv(conv, tokens) => self.depthwise(&name, conv, tokens),
                Part::LayerNorm(norm, tokens) => self.layer_norm(&name, norm, tokens, false),
                Part::GroupNorm(norm, tokens) => {
                    let map = norm.num_channels * tokens;
                    self.push(&name, Class::Other, norm.num_params(), 5 * map, 2 * map);
                }
                Part::Parameters(params) => self.push(&name, Class::Other, params, 0, 0),
                Part::Attention { pairs, tokens, dim } => {
                    self.product(&name, Class::Other, 2 * pairs * dim, 4 * tokens * dim);
                }
            }
        }
    }

    /// All tokens are looked at, but only the class token looks and goes through the perceptron.
    pub(super) fn class_block(&mut self, name: &str, block: &ClassBlock, tokens: usize) {
        let part = |part: &str| format!("{name}.{part}");
        let ClassBlock { norm1, attn, norm2, mlp } = block;
        self.layer_norm(&part("norm1"), norm1, 1 + tokens, false);
        self.linear(&part("attn.q"), &attn.q, 1);
        self.linear(&part("attn.kv"), &attn.kv, 1 + tokens);
        let [channels, _] = attn.q.weight.lazy_shape().dims();
        let macs = 2 * (1 + tokens) * channels;
        self.product(&part("attention"), Class::GlobalAttention, macs, macs + 2 * channels);
        self.linear(&part("attn.proj"), &attn.proj, 1);
        self.layer_norm(&part("norm2"), norm2, 1, false);
        self.linear(&part("mlp.fc1"), &mlp.fc1, 1);
        self.linear(&part("mlp.fc2"), &mlp.fc2, 1);
    }
}
