//! Layer-wise decay of the learning rate for fine-tuning (Clark et al., 2020; timm's `--layer-decay`):
//! the head learns at the full rate, each layer before it at `decay` times that of the next.

/// From the key of a parameter to the factor of its learning rate.
///
/// The stem, or the embedding of a plain ViT, is layer 0, the blocks follow in order, each embedding between
/// stages belongs to the block after it, and norm, head and what else is fresh are the last layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerDecay {
    /// Factor from a layer to the one before it; 1 turns it off.
    pub decay: f64,
    /// Blocks of each stage; those of a plain ViT are all in the first.
    pub depths: [usize; 4],
}

impl LayerDecay {
    /// The factor of the parameter with this official key.
    pub fn scale(&self, key: &str) -> f64 {
        let last = 1 + self.depths.iter().sum::<usize>();
        self.decay.powi((last - self.layer(key)) as i32)
    }

    /// The layer of the parameter with this official key.
    pub fn layer(&self, key: &str) -> usize {
        let key = key.strip_prefix("backbone.").unwrap_or(key); // as segmentors have it
        let before = |stage: usize| 1 + self.depths[..stage].iter().sum::<usize>();
        let mut numbers = key.split('.').filter_map(|part| part.parse::<usize>().ok());
        let mut next = |limit: usize| numbers.next().filter(|&number| number < limit);
        if key.starts_with("downsample_layers.") {
            match next(4) {
                None | Some(0) => 0,
                Some(stage) => before(stage),
            }
        } else if key.starts_with("stages.") {
            let stage = next(4).unwrap_or(0);
            before(stage) + next(self.depths[stage]).unwrap_or(0)
        } else if key.starts_with("layers.") {
            // Swin: an embedding is called after the stage before it.
            let stage = next(4).unwrap_or(0);
            if key.contains(".downsample.") {
                before(stage + 1)
            } else {
                before(stage) + next(self.depths[stage]).unwrap_or(0)
            }
        } else if key.starts_with("blocks.") {
            1 + next(self.depths[0]).unwrap_or(0)
        } else if key.starts_with("patch_embed.") || key == "pos_embed" {
            0
        } else {
            before(4)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_count_from_the_stem_to_the_head() {
        let decay = LayerDecay { decay: 0.5, depths: [1, 2, 3, 1] };
        for (key, layer) in [
            ("downsample_layers.0.3.weight", 0),
            ("stages.0.0.norm1.weight", 1),
            ("downsample_layers.1.0.weight", 2),
            ("stages.1.0.attn.wo.bias", 2),
            ("stages.1.blocks.1.mlp.0.weight", 3), // as STL has it
            ("stages.2.2.mlp.3.weight", 6),
            ("stages.3.0.attn.proj.weight", 7),
            ("norm.weight", 8),
            ("head.bias", 8),
            ("backbone.stages.2.2.mlp.3.weight", 6),
            ("decode_head.conv_seg.weight", 8),
            ("patch_embed.proj.weight", 0),
            ("layers.1.blocks.1.norm1.weight", 3), // as Swin has it
            ("layers.0.downsample.norm.weight", 2),
        ] {
            assert_eq!(decay.layer(key), layer, "{key}");
            assert_eq!(decay.scale(key), 0.5f64.powi(8 - layer as i32), "{key}");
        }
        let decay = LayerDecay { decay: 0.5, depths: [12, 0, 0, 0] };
        for (key, layer) in [
            ("backbone.pos_embed", 0),
            ("backbone.patch_embed.proj.weight", 0),
            ("backbone.blocks.0.norm1.weight", 1),
            ("backbone.blocks.11.attn.lepe.bias", 12),
            ("backbone.propagation.0.convs.0.conv.weight", 13),
            ("backbone.norm.weight", 13),
            ("backbone.pyramid.fpn_convs.0.conv.weight", 13),
        ] {
            assert_eq!(decay.layer(key), layer, "{key}");
        }
    }
}
