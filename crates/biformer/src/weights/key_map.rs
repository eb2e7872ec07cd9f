//! Names of parameters: ours (paths of struct fields) ⇄ the official state dict.
//!
//! | ours | T, S, B | STL | STL-nchw |
//! |---|---|---|---|
//! | `stages.0.blocks.1` | `stages.0.1` | `stages.0.blocks.1` | `stages.0.blocks.1` |
//! | BRA `attn.qkv`, `attn.output` | `attn.qkv.qkv`, `attn.wo` | `attn.qkv.qkv`, `attn.wo` | `attn.qkv_linear`, `attn.output_linear` |
//! | full `attn.qkv`, `attn.output` | `attn.qkv`, `attn.proj` | `attn.qkv`, `attn.proj` | `attn.qkv`, `attn.proj` |
//! | `attn.lce` | `attn.lepe` | `attn.lepe` | `attn.lepe` |
//! | `mlp.fc1`, `mlp.fc2` | `mlp.0`, `mlp.3` | `mlp.0`, `mlp.2` | `mlp.0`, `mlp.2` |
//! | `gamma`, `beta` of norms | `weight`, `bias` | `weight`, `bias` | `weight`, `bias` |
//!
//! Plain ViTs have timm's names, in which ours differ by `attn.output` (`attn.proj`), `attn.lce` (`attn.lepe`) and
//! norms alone.
//!
//! The linear layers of STL-nchw are 1 × 1 convolutions: their weights have two more axes. Class
//! attention (`post_network`) and the head of the tokens (`aux_head`) have Wave-ViT's names and layout.
//!
//! Swin-T has Microsoft's names:
//!
//! | ours | Swin |
//! |---|---|
//! | `downsample_layers.0.SwinStem` | `patch_embed` |
//! | `downsample_layers.1.SwinMerging` | `layers.0.downsample` |
//! | `stages.0.blocks.1` | `layers.0.blocks.1` |
//! | `attn.output` | `attn.proj` |
//!
//! The other models of Table 5 have no official weights in this layout. Their attentions keep the name of the mechanism
//! (`stages.0.blocks.1.attn.BlockGrid.qkv`), so that files of one are not taken for those of another, whose shapes
//! may be the same.
//!
//! Necks and heads of dense models are called as in mmsegmentation and mmdetection. Two of their
//! sequences also hold layers without weights, which count:
//!
//! | ours | official | between |
//! |---|---|---|
//! | `scale_heads.2.1` | `scale_heads.2.2` | an upsampling after each convolution |
//! | `psp_modules.0` | `psp_modules.0.1` | a pooling before the convolution |

/// Swin's name of the embedding in front of a stage: that of a merging is in the stage before.
fn swin_embedding(stage: &str) -> impl Iterator<Item = &str> {
    let parts: &[&str] = match stage {
        "0" => &["patch_embed"],
        "1" => &["layers", "0", "downsample"],
        "2" => &["layers", "1", "downsample"],
        _ => &["layers", "2", "downsample"],
    };
    parts.iter().copied()
}

/// Class attention after the backbone.
const POST_NETWORK: &str = "post_network";

/// Which official code wrote the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStyle {
    /// `models/biformer.py`
    BiFormer,
    /// `models/biformer_stl.py`
    Stl,
    /// `models/biformer_stl_nchw.py`
    StlNchw,
    /// Microsoft's `models/swin_transformer.py`
    Swin,
    /// timm's `vision_transformer.py`, and what is ours beside it.
    Vit,
}

impl KeyStyle {
    /// The official key of the parameter at `path`, names of struct fields and enum variants
    /// from the model down. (The official classifier is the backbone itself: its keys have no prefix,
    /// and neither has such a path.)
    pub fn key(self, path: &[&str]) -> String {
        let mut key: Vec<&str> = Vec::with_capacity(path.len());
        for (i, &name) in path.iter().enumerate() {
            let ancestor = |distance: usize| i.checked_sub(distance).map(|i| path[i]);
            let parent = ancestor(1);
            match name {
                "blocks" if self == Self::BiFormer => {}
                "stages" if self == Self::Swin => key.push("layers"),
                "downsample_layers" if self == Self::Swin => {}
                place if parent == Some("downsample_layers") && self == Self::Swin => {
                    key.extend(swin_embedding(place));
                }
                "ShiftedWindow" if self == Self::Swin => {}
                // Enum variants have no place in official names.
                "OverlappedStem" | "OverlappedMerging" | "Stem" | "Merging" | "Bra" => {}
                "SwinStem" | "SwinMerging" | "Batch" | "Layer" | "Stl" => {}
                "Full" if parent != Some("Stl") => {}
                "Window" | "BiFormer" | "Vit" | "SemanticFpn" | "Uper" | "Linear" => {}
                // mmdetection has the heads beside backbone and neck.
                "heads" | "MaskRcnn" => {}
                "RetinaNet" => key.push("bbox_head"),
                "conv1" => key.push("0"),
                "norm1" if parent == Some("OverlappedStem") => key.push("1"),
                "conv2" => key.push("3"),
                "norm2" if parent == Some("OverlappedStem") => key.push("4"),
                "conv" if parent == Some("Merging") => key.push("1"),
                "norm" if parent == Some("Merging") => key.push("0"),
                "conv" if matches!(parent, Some("OverlappedMerging" | "Stem")) => key.push("0"),
                "norm" if matches!(parent, Some("OverlappedMerging" | "Stem")) => key.push("1"),
                "qkv" if parent == Some("Bra") && self == Self::StlNchw => key.push("qkv_linear"),
                "qkv" if parent == Some("Bra") && self != Self::Vit => key.extend(["qkv", "qkv"]),
                "output" if self == Self::Vit => key.push("proj"),
                "output" if parent.is_some_and(|parent| parent != "Bra") => key.push("proj"),
                "output" if self == Self::StlNchw => key.push("output_linear"),
                "output" => key.push("wo"),
                "lce" => key.push("lepe"),
                // Wave-ViT's names, the same in all styles.
                "fc1" | "fc2" if path[0] == POST_NETWORK => key.push(name),
                "fc1" | "fc2" if matches!(self, Self::Swin | Self::Vit) => key.push(name),
                "fc1" => key.push("0"),
                "fc2" if self == Self::BiFormer => key.push("3"),
                "fc2" => key.push("2"),
                "gamma" => key.push("weight"),
                "beta" => key.push("bias"),
                // At most three convolutions: from stride 32 to stride 4.
                "1" if ancestor(2) == Some("scale_heads") => key.push("2"),
                "2" if ancestor(2) == Some("scale_heads") => key.push("4"),
                place if parent == Some("psp_modules") => key.extend([place, "1"]),
                name => key.push(name),
            }
        }
        key.join(".")
    }

    /// Whether the official weight of the linear layer `key` is a 1 × 1 convolution.
    pub fn is_pointwise_conv(self, key: &str) -> bool {
        let heads = ["head.", "aux_head.", "roi_head.", POST_NETWORK];
        self == Self::StlNchw && !heads.iter().any(|head| key.starts_with(head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_official_code() {
        let key = |style: KeyStyle, path: &str| style.key(&path.split('.').collect::<Vec<_>>());
        let qkv = "stages.0.blocks.1.attn.Bra.qkv.weight";
        assert_eq!(key(KeyStyle::BiFormer, qkv), "stages.0.1.attn.qkv.qkv.weight");
        assert_eq!(key(KeyStyle::Stl, qkv), "stages.0.blocks.1.attn.qkv.qkv.weight");
        assert_eq!(key(KeyStyle::StlNchw, qkv), "stages.0.blocks.1.attn.qkv_linear.weight");
        let norm = "downsample_layers.0.OverlappedStem.norm2.gamma";
        assert_eq!(key(KeyStyle::BiFormer, norm), "downsample_layers.0.4.weight");
        let merging = "downsample_layers.1.Merging.conv.bias";
        assert_eq!(key(KeyStyle::Stl, merging), "downsample_layers.1.1.bias");
        assert_eq!(key(KeyStyle::Stl, "norm.running_mean"), "norm.running_mean");
        let class_mlp = "post_network.0.mlp.fc2.weight";
        assert_eq!(key(KeyStyle::BiFormer, class_mlp), class_mlp);
        assert!(KeyStyle::StlNchw.is_pointwise_conv("stages.0.blocks.1.mlp.0.weight"));
        assert!(!KeyStyle::StlNchw.is_pointwise_conv(class_mlp));
        for (ours, swin) in [
            ("downsample_layers.0.SwinStem.proj.weight", "patch_embed.proj.weight"),
            ("downsample_layers.2.SwinMerging.norm.gamma", "layers.1.downsample.norm.weight"),
            (
                "stages.3.blocks.0.attn.Stl.ShiftedWindow.qkv.bias",
                "layers.3.blocks.0.attn.qkv.bias",
            ),
            (
                "stages.3.blocks.1.attn.Stl.ShiftedWindow.output.bias",
                "layers.3.blocks.1.attn.proj.bias",
            ),
            ("stages.0.blocks.0.mlp.fc2.weight", "layers.0.blocks.0.mlp.fc2.weight"),
            ("norm.Layer.beta", "norm.bias"),
        ] {
            assert_eq!(key(KeyStyle::Swin, ours), swin);
        }
        let mechanism = "stages.0.blocks.1.attn.Stl.Full.output.weight";
        assert_eq!(key(KeyStyle::Stl, mechanism), "stages.0.blocks.1.attn.Full.proj.weight");
        let norm1 = "stages.3.blocks.0.norm1.beta";
        assert_eq!(key(KeyStyle::BiFormer, norm1), "stages.3.0.norm1.bias");
        let dense = format!("backbone.{merging}");
        assert_eq!(key(KeyStyle::Stl, &dense), "backbone.downsample_layers.1.1.bias");
        let scale_head = "decode_head.SemanticFpn.scale_heads.3.2.bn.gamma";
        assert_eq!(key(KeyStyle::Stl, scale_head), "decode_head.scale_heads.3.4.bn.weight");
        let vit = "backbone.Vit.blocks.3.attn.Bra.qkv.weight";
        assert_eq!(key(KeyStyle::Vit, vit), "backbone.blocks.3.attn.qkv.weight");
        let vit = "backbone.Vit.blocks.3.attn.Window.output.bias";
        assert_eq!(key(KeyStyle::Vit, vit), "backbone.blocks.3.attn.proj.bias");
        assert_eq!(key(KeyStyle::Vit, "blocks.0.mlp.fc2.weight"), "blocks.0.mlp.fc2.weight");
        assert_eq!(key(KeyStyle::Vit, "blocks.0.norm1.gamma"), "blocks.0.norm1.weight");
        let retina_head = "heads.RetinaNet.cls_convs.1.conv.weight";
        assert_eq!(key(KeyStyle::BiFormer, retina_head), "bbox_head.cls_convs.1.conv.weight");
        let mask_head = "heads.MaskRcnn.roi_head.mask_head.upsample.weight";
        assert_eq!(key(KeyStyle::Stl, mask_head), "roi_head.mask_head.upsample.weight");
        assert!(!KeyStyle::StlNchw.is_pointwise_conv("roi_head.bbox_head.fc_cls.weight"));
        let pooled = "decode_head.Uper.psp_modules.2.conv.weight";
        assert_eq!(key(KeyStyle::BiFormer, pooled), "decode_head.psp_modules.2.1.conv.weight");
    }
}
