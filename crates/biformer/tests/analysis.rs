//! What is counted of layers, against sums by hand.

use biformer::Precision;
use biformer::analysis::{LayerCost, bra_costs, classifier_costs, full_attention_costs};
use biformer::attention::{BraConfig, FullAttentionConfig, RegionRule};
use biformer::classification::ImageClassifierConfig;
use biformer::models::BiFormerConfig;
use burn::tensor::Device;

/// Name, operator, MACs, and numbers of maps.
fn counted(costs: &[LayerCost]) -> Vec<(&str, String, usize, usize)> {
    let row = |cost: &'_ LayerCost| (cost.class.to_string(), cost.macs, cost.map_numbers);
    let named = costs.iter().map(|cost| (cost.name.as_str(), row(cost)));
    named.map(|(name, (class, macs, numbers))| (name, class, macs, numbers)).collect()
}

/// 8 × 12 tokens of 32 channels, 4 × 4 regions of 2 × 3 tokens, each routed to 3.
#[test]
fn routing_attention_moves_each_map_once() {
    let attention = BraConfig::new(32, 2, 4, 3).init(&Device::default());
    let costs = bra_costs(&attention, [8, 12]);
    let (map, graph) = (96 * 32, 16 * 3);
    let expected = [
        ("attn.qkv", "linear", 96 * 32 * 96, 4 * map),
        ("attn.lce", "routed attention", map * 25, 0), // V is there, and the sum is written anyway
        ("attn.routing", "routing", 16 * 16 * 32, 2 * map + graph),
        ("attn.attention", "routed attention", 2 * 96 * 18 * 32, 4 * map + graph),
        ("attn.output", "linear", 96 * 32 * 32, 2 * map),
    ];
    let expected = expected.map(|(name, class, macs, map)| (name, class.to_owned(), macs, map));
    assert_eq!(counted(&costs), expected);
}

/// STL-nchw pads after the projection, and its LCE sees no padding: two operators.
#[test]
fn padding_parts_attention_and_lce() {
    let config = BraConfig::new(32, 2, 4, 3).with_region_rule(RegionRule::Floor);
    let costs = bra_costs(&config.init(&Device::default()), [9, 9]);
    let lce = costs.iter().find(|cost| cost.name == "attn.lce").expect("the LCE");
    assert_eq!(
        (lce.class.to_string().as_str(), lce.map_numbers),
        ("depthwise convolution", 2 * 81 * 32)
    );
}

#[test]
fn full_attention_moves_each_map_once() {
    let attention = FullAttentionConfig::new(32).with_num_heads(2).init(&Device::default());
    let costs = full_attention_costs(&attention, [8, 12]);
    let map = 96 * 32;
    let expected = [
        ("attn.qkv", "linear", 96 * 32 * 96, 4 * map),
        ("attn.lce", "depthwise convolution", map * 25, 3 * map),
        ("attn.attention", "global attention", 2 * 96 * 96 * 32, 4 * map),
        ("attn.output", "linear", 96 * 32 * 32, 2 * map),
    ];
    let expected = expected.map(|(name, class, macs, map)| (name, class.to_owned(), macs, map));
    assert_eq!(counted(&costs), expected);
}

/// The first stage of `biformer_nano` on 64 × 64 pixels.
#[test]
fn what_is_fused_moves_nothing() {
    let backbone = BiFormerConfig::from_name("biformer_nano").expect("a model");
    let [dim, ..] = backbone.embed_dims;
    let model = ImageClassifierConfig::new(backbone).init(&Device::default());
    let costs = classifier_costs(&model, [64, 64]);
    let of = |name: &str| {
        costs.iter().find(|cost| cost.name == name).unwrap_or_else(|| panic!("no {name}"))
    };
    let stem = of("downsample_layers.0.conv1");
    let (image, middle, map) = (3 * 64 * 64, dim / 2 * 32 * 32, dim * 16 * 16);
    assert_eq!((stem.params, stem.map_numbers), (dim / 2 * (27 + 1), image + middle));
    assert_eq!(of("downsample_layers.0.norm1").map_numbers, 0);
    assert_eq!(of("stages.0.blocks.0.pos_embed").map_numbers, 2 * map);
    let norm = of("stages.0.blocks.0.norm1");
    assert_eq!((norm.class.to_string().as_str(), norm.map_numbers), ("linear", 0));
    assert_eq!(of("stages.0.blocks.0.attn.output").map_numbers, 3 * map, "with the residual");
    assert_eq!(of("stages.0.blocks.0.mlp.fc1").map_numbers, 4 * map);
    assert_eq!(of("stages.0.blocks.0.mlp.fc2").map_numbers, 5 * map, "with the residual");
    // Full attention enhances the normalised map, which must therefore be there.
    let last = of("stages.3.blocks.0.norm1");
    assert_eq!(last.class.to_string(), "layer norm");
    assert_eq!(
        of("head").map_numbers,
        model.backbone.stages[3].blocks[0].norm1.gamma.dims()[0] + 1000
    );
}

#[test]
fn bytes_of_a_batch() {
    let attention = BraConfig::new(32, 2, 4, 3).init(&Device::default());
    let costs = bra_costs(&attention, [8, 12]);
    let (qkv, lce) = (&costs[0], &costs[1]);
    let (weights, maps) = (32 * 96 + 96, 4 * 96 * 32);
    assert_eq!(qkv.bytes(1, Precision::F32), 4 * weights + 4 * maps);
    assert_eq!(qkv.bytes(8, Precision::F32), 4 * weights + 8 * 4 * maps);
    assert_eq!(qkv.bytes(8, Precision::Bf16), 2 * weights + 8 * 4 * maps);
    assert_eq!(lce.bytes(8, Precision::Bf16), 4 * (32 * 25 + 32));
}
