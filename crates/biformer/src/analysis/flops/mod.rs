//! Parameters, multiply-accumulates (MACs) and traffic with the memory, layer by layer.
//!
//! The convention is fvcore's, which the official figures use: products, convolutions and norms
//! count; activations, softmax, additions and means do not. A batch norm in evaluation costs 2
//! per element, a layer norm 5. The paper's "FLOPs" are these MACs.
//!
//! Traffic is what no program can save: each map that an operator reads or writes, once, and its
//! weights. What an operator does on the way (a folded batch norm, GELU, a layer norm in front of a
//! linear layer) has none of its own.

mod attention;
mod segmentor;
mod vit;

pub use segmentor::segmentor_costs;

use biformer_ops::profile::Class;
use burn::module::Module;
use burn::nn::{BatchNorm, conv::Conv2d};

use crate::Precision;
use crate::attention::{Attention, BiLevelRoutingAttention, FullAttention};
use crate::classification::ImageClassifier;
use crate::layers::{
    DepthwiseConv, HeadNorm, LayerNorm, Linear, Merging, OverlappedMerging, OverlappedStem,
    PatchEmbed, Stem, SwinMerging, SwinStem,
};
use crate::models::{BiFormer, Block};

/// Cost of one layer for one picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerCost {
    /// Path in the model, such as `stages.0.blocks.1.attn.qkv`.
    pub name: String,
    /// The operator that computes it.
    pub class: Class,
    /// Trained numbers; running statistics are not.
    pub params: usize,
    /// Multiply-accumulates.
    pub macs: usize,
    /// Numbers of maps that are read and written.
    pub map_numbers: usize,
}

impl LayerCost {
    /// Traffic with the memory for a batch: maps for each picture, weights once. Maps are float32
    /// always; bfloat16 halves the weights of linear layers and convolutions.
    pub fn bytes(&self, batch_size: usize, precision: Precision) -> usize {
        let packed = matches!(self.class, Class::Linear | Class::Convolution);
        let weight = if packed && precision != Precision::F32 { 2 } else { 4 };
        weight * self.params + 4 * batch_size * self.map_numbers
    }
}

/// Every layer of a classifier on pictures of `[height, width]` pixels.
pub fn classifier_costs(model: &ImageClassifier, size: [usize; 2]) -> Vec<LayerCost> {
    let mut counter = Counter::default();
    let [height, width] = counter.backbone(&model.backbone, size);
    match &model.norm {
        HeadNorm::Batch(norm) => {
            counter.batch_norm("norm", norm, height * width);
            counter.moves(2 * norm.gamma.lazy_shape().num_elements() * height * width);
        }
        HeadNorm::Layer(norm) => counter.layer_norm("norm", norm, height * width, false),
    }
    for (i, block) in model.post_network.iter().enumerate() {
        counter.class_block(&format!("post_network.{i}"), block, height * width);
    }
    counter.linear("head", &model.head, 1);
    if let Some(head) = &model.aux_head {
        counter.linear("aux_head", head, height * width);
    }
    counter.costs
}

/// Every layer of a backbone on pictures of `[height, width]` pixels.
pub fn backbone_costs(model: &BiFormer, size: [usize; 2]) -> Vec<LayerCost> {
    let mut counter = Counter::default();
    counter.backbone(model, size);
    counter.costs
}

/// Every layer of a bi-level routing attention on maps of `[height, width]` tokens.
pub fn bra_costs(attention: &BiLevelRoutingAttention, size: [usize; 2]) -> Vec<LayerCost> {
    let mut counter = Counter::default();
    counter.bra("attn", attention, size);
    counter.costs
}

/// Every layer of a full attention on maps of `[height, width]` tokens.
pub fn full_attention_costs(attention: &FullAttention, size: [usize; 2]) -> Vec<LayerCost> {
    let mut counter = Counter::default();
    counter.full("attn", attention, size);
    counter.costs
}

/// Height and width of the map of each stage, in tokens, on pictures of `[height, width]` pixels.
pub fn map_sizes(model: &BiFormer, mut size: [usize; 2]) -> [[usize; 2]; 4] {
    let mut counter = Counter::default();
    std::array::from_fn(|stage| {
        size = counter.patch_embed("", &model.downsample_layers[stage], size);
        size
    })
}

#[derive(Default)]
struct Counter {
    costs: Vec<LayerCost>,
}

impl Counter {
    /// Returns the size of the last map.
    fn backbone(&mut self, model: &BiFormer, mut size: [usize; 2]) -> [usize; 2] {
        for (i, (embed, stage)) in model.downsample_layers.iter().zip(&model.stages).enumerate() {
            size = self.patch_embed(&format!("downsample_layers.{i}"), embed, size);
            for (j, block) in stage.blocks.iter().enumerate() {
                self.block(&format!("stages.{i}.blocks.{j}"), block, size);
            }
            if let Some(norms) = &model.extra_norms {
                self.layer_norm(&format!("extra_norms.{i}"), &norms[i], area(size), false);
            }
        }
        size
    }

    fn block(&mut self, name: &str, block: &Block, size: [usize; 2]) {
        let name = |part: &str| format!("{name}.{part}");
        let [height, width] = size;
        if let Some(conv) = &block.pos_embed {
            self.depthwise(&name("pos_embed"), conv, height * width);
        }
        let fused = match &block.attn {
            Attention::Bra(attention) => !attention.config.grid(height, width).is_padded(),
            Attention::Full(_) | Attention::Stl(_) => false,
            Attention::Window(_) => true,
        };
        self.layer_norm(&name("norm1"), &block.norm1, height * width, fused);
        match &block.attn {
            Attention::Bra(attention) => self.bra(&name("attn"), attention, size),
            Attention::Full(attention) => self.full(&name("attn"), attention, size),
            Attention::Window(attention) => self.window(&name("attn"), attention, size),
            Attention::Stl(attention) => self.stl(&name("attn"), attention, size),
        }
        let residual = block.norm1.gamma.lazy_shape().num_elements() * height * width;
        self.moves(residual);
        self.layer_norm(&name("norm2"), &block.norm2, height * width, true);
        self.linear(&name("mlp.fc1"), &block.mlp.fc1, height * width);
        self.linear(&name("mlp.fc2"), &block.mlp.fc2, height * width);
        self.moves(residual);
    }

    fn patch_embed(&mut self, name: &str, embed: &PatchEmbed, size: [usize; 2]) -> [usize; 2] {
        let part = |part: &str| format!("{name}.{part}");
        let output = |size: [usize; 2], conv: &Conv2d| -> [usize; 2] {
            let padding = if conv.kernel_size[0] == 3 { 2 } else { 0 };
            std::array::from_fn(|i| (size[i] + padding - conv.kernel_size[i]) / conv.stride[i] + 1)
        };
        match embed {
            PatchEmbed::OverlappedStem(OverlappedStem { conv1, norm1, conv2, norm2, .. }) => {
                let middle = output(size, conv1);
                self.conv(&part("conv1"), conv1, [area(size), area(middle)]);
                self.batch_norm(&part("norm1"), norm1, area(middle));
                let end = output(middle, conv2);
                self.conv(&part("conv2"), conv2, [area(middle), area(end)]);
                self.batch_norm(&part("norm2"), norm2, area(end));
                end
            }
            PatchEmbed::OverlappedMerging(OverlappedMerging { conv, norm, .. })
            | PatchEmbed::Stem(Stem { conv, norm, .. }) => {
                let end = output(size, conv);
                self.conv(&part("conv"), conv, [area(size), area(end)]);
                self.batch_norm(&part("norm"), norm, area(end));
                end
            }
            PatchEmbed::Merging(Merging { norm, conv, .. }) => {
                self.batch_norm(&part("norm"), norm, area(size));
                let end = output(size, conv);
                self.conv(&part("conv"), conv, [area(size), area(end)]);
                end
            }
            PatchEmbed::SwinStem(SwinStem { proj, norm }) => {
                let end = size.map(|side| side.div_ceil(4));
                self.conv(&part("proj"), proj, [area(size), area(end)]);
                self.layer_norm(&part("norm"), norm, area(end), false);
                end
            }
            PatchEmbed::SwinMerging(SwinMerging { norm, reduction }) => {
                let end = size.map(|side| side.div_ceil(2));
                self.layer_norm(&part("norm"), norm, area(end), false);
                self.linear(&part("reduction"), reduction, area(end));
                end
            }
        }
    }

    /// `areas`: positions of the map that is read, and of the one that is written.
    fn conv(&mut self, name: &str, conv: &Conv2d, areas: [usize; 2]) {
        let [channels_out, channels_in, height, width] = conv.weight.lazy_shape().dims();
        let macs = channels_out * channels_in * height * width * areas[1];
        let numbers = channels_in * areas[0] + channels_out * areas[1];
        self.push(name, Class::Convolution, conv.num_params(), macs, numbers);
    }

    fn depthwise(&mut self, name: &str, conv: &DepthwiseConv, positions: usize) {
        let weights = conv.weight.lazy_shape().num_elements();
        let channels = conv.bias.lazy_shape().num_elements();
        let numbers = 2 * channels * positions;
        self.push(name, Class::DepthwiseConv, conv.num_params(), weights * positions, numbers);
    }

    fn linear(&mut self, name: &str, linear: &Linear, positions: usize) {
        let [dim_in, dim_out] = linear.weight.lazy_shape().dims();
        let (macs, numbers) = (dim_in * dim_out * positions, (dim_in + dim_out) * positions);
        self.push(name, Class::Linear, linear.num_params(), macs, numbers);
    }

    /// `fused`: by the linear layer behind it.
    fn layer_norm(&mut self, name: &str, norm: &LayerNorm, positions: usize, fused: bool) {
        let map = norm.gamma.lazy_shape().num_elements() * positions;
        self.push(name, Class::LayerNorm, norm.num_params(), 5 * map, 2 * map);
        if fused {
            self.is_part_of(Class::Linear);
        }
    }

    /// One that is folded into the convolution beside it.
    fn batch_norm(&mut self, name: &str, norm: &BatchNorm, positions: usize) {
        let channels = norm.gamma.lazy_shape().num_elements();
        self.push(name, Class::BatchNorm, 2 * channels, 2 * channels * positions, 0);
    }

    fn product(&mut self, name: &str, class: Class, macs: usize, map_numbers: usize) {
        self.push(name, class, 0, macs, map_numbers);
    }

    fn push(&mut self, name: &str, class: Class, params: usize, macs: usize, map_numbers: usize) {
        self.costs.push(LayerCost { name: name.to_owned(), class, params, macs, map_numbers });
    }

    /// The last layer reads or writes further numbers.
    fn moves(&mut self, numbers: usize) {
        self.last().map_numbers += numbers;
    }

    /// The last layer is computed by an operator of this class, on numbers that are there.
    fn is_part_of(&mut self, class: Class) {
        let last = self.last();
        (last.class, last.map_numbers) = (class, 0);
    }

    fn last(&mut self) -> &mut LayerCost {
        self.costs.last_mut().expect("a layer")
    }
}

fn area([height, width]: [usize; 2]) -> usize {
    height * width
}
