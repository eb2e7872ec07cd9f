//! The layers of a plain ViT and of its pyramid, counted as in [`flops`](super).

use biformer_ops::profile::Class;
use burn::module::Module;

use super::{Counter, area};
use crate::layers::{ConvNorm, TransposedConv};
use crate::models::Vit;

impl Counter {
    /// Returns the size of each map of the pyramid.
    pub(super) fn vit(&mut self, model: &Vit, [height, width]: [usize; 2]) -> [[usize; 2]; 4] {
        let patch = model.config.patch_size;
        let size = [height, width].map(|side| side.div_ceil(patch));
        let projection = &model.patch_embed.proj;
        self.conv("patch_embed.proj", projection, [height * width, area(size)]);
        let positions = model.pos_embed.lazy_shape().num_elements();
        let map = 2 * model.config.embed_dim * area(size); // read and written, with the positions in between
        self.push("pos_embed", Class::Other, positions, 0, map);
        for (i, block) in model.blocks.iter().enumerate() {
            self.block(&format!("blocks.{i}"), block, size);
            if let Some((place, propagation)) = model.propagation_after(i) {
                for (j, conv) in propagation.convs.iter().enumerate() {
                    self.conv_norm(&format!("propagation.{place}.convs.{j}"), conv, area(size));
                }
            }
        }
        self.layer_norm("norm", &model.norm, area(size), false);

        let pyramid = &model.pyramid;
        let size_8 = size.map(|side| 2 * side);
        let sizes = [size.map(|side| 4 * side), size_8, size, size.map(|side| side.div_ceil(2))];
        self.transposed("pyramid.to_stride_4.0", &pyramid.to_stride_4[0], area(size));
        self.layer_norm("pyramid.norm", &pyramid.norm, area(size_8), false);
        self.transposed("pyramid.to_stride_4.1", &pyramid.to_stride_4[1], area(size_8));
        self.transposed("pyramid.to_stride_8", &pyramid.to_stride_8, area(size));
        let convs = [("lateral_convs", &pyramid.lateral_convs), ("fpn_convs", &pyramid.fpn_convs)];
        for (part, convs) in convs {
            for (i, (conv, size)) in convs.iter().zip(sizes).enumerate() {
                self.conv_norm(&format!("pyramid.{part}.{i}"), conv, area(size));
            }
        }
        sizes
    }

    fn conv_norm(&mut self, name: &str, layer: &ConvNorm, positions: usize) {
        self.conv(&format!("{name}.conv"), &layer.conv, [positions; 2]);
        self.layer_norm(&format!("{name}.norm"), &layer.norm, positions, false);
    }

    /// `positions` of the map that is read; four times as many are written.
    fn transposed(&mut self, name: &str, layer: &TransposedConv, positions: usize) {
        let [dim_in, dim_out, _, _] = layer.weight.lazy_shape().dims();
        let macs = 4 * dim_in * dim_out * positions;
        let numbers = (dim_in + 4 * dim_out) * positions;
        self.push(name, Class::Linear, layer.num_params(), macs, numbers);
    }
}
