//! The layers of segmentors, counted as in [`flops`](super).

use biformer_ops::profile::Class;
use burn::module::Module;

use super::{Counter, LayerCost, area, map_sizes};
use crate::layers::{ConvModule, Fpn};
use crate::models::Backbone;
use crate::segmentation::{
    DecodeHead, LinearHead, PixelClassifier, Segmentor, SemanticFpnHead, UperHead,
};

/// Every layer of a segmentor on pictures of `[height, width]` pixels. The auxiliary head counts with its
/// parameters and no work: only training asks it.
pub fn segmentor_costs(model: &Segmentor, size: [usize; 2]) -> Vec<LayerCost> {
    let mut counter = Counter::default();
    let sizes = match &model.backbone {
        Backbone::BiFormer(backbone) => {
            counter.backbone(backbone, size);
            map_sizes(backbone, size)
        }
        Backbone::Vit(backbone) => counter.vit(backbone, size),
    };
    for cost in &mut counter.costs {
        cost.name.insert_str(0, "backbone.");
    }
    if let Some(neck) = &model.neck {
        counter.fpn("neck", neck, &sizes);
    }
    match &model.decode_head {
        DecodeHead::SemanticFpn(head) => counter.semantic_fpn("decode_head", head, sizes),
        DecodeHead::Uper(head) => counter.uper("decode_head", head, sizes),
        DecodeHead::Linear(LinearHead { bn, conv_seg }) => {
            let positions = area(sizes[0]);
            counter.batch_norm("decode_head.bn", bn, positions);
            counter.moves(2 * bn.gamma.lazy_shape().num_elements() * positions);
            counter.pixel_classifier("decode_head.conv_seg", conv_seg, positions);
        }
    }
    if let Some(head) = &model.auxiliary_head {
        for (i, conv) in head.convs.iter().enumerate() {
            counter.conv_module(&format!("auxiliary_head.convs.{i}"), conv, 0);
        }
        counter.pixel_classifier("auxiliary_head.conv_seg", &head.conv_seg, 0);
    }
    counter.costs
}

impl Counter {
    /// `sizes` are those of the maps that go in, finest first.
    fn fpn(&mut self, name: &str, neck: &Fpn, sizes: &[[usize; 2]]) {
        for (i, (conv, [height, width])) in neck.lateral_convs.iter().zip(sizes).enumerate() {
            self.conv_module(&format!("{name}.lateral_convs.{i}"), conv, height * width);
        }
        let mut size = [0usize; 2];
        for (i, conv) in neck.fpn_convs.iter().enumerate() {
            // Beyond the maps each level has half the sides of the one before.
            size = sizes.get(i).copied().unwrap_or(size.map(|side| side.div_ceil(2)));
            self.conv_module(&format!("{name}.fpn_convs.{i}"), conv, size[0] * size[1]);
        }
    }

    fn semantic_fpn(&mut self, name: &str, head: &SemanticFpnHead, sizes: [[usize; 2]; 4]) {
        for (i, (convs, [height, width])) in head.scale_heads.iter().zip(sizes).enumerate() {
            for (j, conv) in convs.iter().enumerate() {
                let positions = (height << j) * (width << j);
                self.conv_module(&format!("{name}.scale_heads.{i}.{j}"), conv, positions);
            }
        }
        self.pixel_classifier(&format!("{name}.conv_seg"), &head.conv_seg, area(sizes[0]));
    }

    fn uper(&mut self, name: &str, head: &UperHead, sizes: [[usize; 2]; 4]) {
        for (i, (conv, cells)) in head.psp_modules.iter().zip(UperHead::POOL_SCALES).enumerate() {
            self.conv_module(&format!("{name}.psp_modules.{i}"), conv, cells * cells);
        }
        self.conv_module(&format!("{name}.bottleneck"), &head.bottleneck, area(sizes[3]));
        let convs = [("lateral_convs", &head.lateral_convs), ("fpn_convs", &head.fpn_convs)];
        for (part, convs) in convs {
            for (i, (conv, size)) in convs.iter().zip(sizes).enumerate() {
                self.conv_module(&format!("{name}.{part}.{i}"), conv, area(size));
            }
        }
        self.conv_module(&format!("{name}.fpn_bottleneck"), &head.fpn_bottleneck, area(sizes[0]));
        self.pixel_classifier(&format!("{name}.conv_seg"), &head.conv_seg, area(sizes[0]));
    }

    fn conv_module(&mut self, name: &str, module: &ConvModule, positions: usize) {
        self.conv(&format!("{name}.conv"), &module.conv, [positions; 2]);
        if let Some(norm) = &module.bn {
            self.batch_norm(&format!("{name}.bn"), norm, positions);
        }
    }

    fn pixel_classifier(&mut self, name: &str, layer: &PixelClassifier, positions: usize) {
        let shape = layer.weight.lazy_shape();
        let (classes, channels) = (shape[0], shape[1]);
        let (macs, numbers) = (classes * channels * positions, (classes + channels) * positions);
        self.push(name, Class::Linear, layer.num_params(), macs, numbers);
    }
}
