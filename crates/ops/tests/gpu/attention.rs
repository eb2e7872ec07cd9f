//! Routed and global attention.

use biformer_ops::{
    GpuBackend, RegionGrid, RoutedAttentionOptions, check_fused_attention, global_attention,
    routed_attention, routed_attention_lce, routed_attention_traced,
};
use burn::backend::Dispatch;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{SUMS, assert_agrees, device, vector, with_gradients};
use crate::numbers::{numbers, values};

/// Query, key and value as slices of one map.
fn slices(size: [usize; 3], channels: usize, device: &Device) -> [Tensor<4>; 3] {
    let [batch, height, width] = size;
    let qkv = numbers([batch, height, width, 3 * channels], 5, device) * 2.0;
    [0, 1, 2].map(|i| qkv.clone().narrow(3, i * channels, channels))
}

/// A region graph without a pattern, in which some regions are routed to often and some never.
pub(super) fn some_graph(
    batch: usize,
    grid: &RegionGrid,
    topk: usize,
    device: &Device,
) -> Tensor<3, Int> {
    let regions = grid.regions();
    let graph = (0..batch * regions * topk).map(|i| ((i * i + i / 3) % regions) as i64);
    let data = TensorData::new(graph.collect::<Vec<_>>(), [batch, regions, topk]);
    Tensor::from_data(data, device)
}

pub(super) struct Case {
    grid: RegionGrid,
    num_heads: usize,
    head_dim: usize,
    topk: usize,
    mask_padding: bool,
}

/// Regions of 1 to 81 tokens; heads that fill vectors or do not; maps that need padding or do not.
pub(super) fn cases() -> Vec<Case> {
    let case = |grid, num_heads, head_dim, topk| Case {
        grid,
        num_heads,
        head_dim,
        topk,
        mask_padding: false,
    };
    let (odd, floor) = (RegionGrid::pad_first(7, 5, 3), RegionGrid::floor(9, 11, 4));
    vec![
        case(RegionGrid::pad_first(5, 4, 5), 2, 16, 3),
        case(RegionGrid::pad_first(14, 14, 7), 2, 32, 4),
        case(RegionGrid::pad_first(14, 14, 7), 3, 20, 49),
        case(RegionGrid::pad_first(12, 9, 3), 1, 5, 2),
        case(RegionGrid::pad_first(18, 18, 2), 2, 32, 1),
        case(RegionGrid::pad_first(18, 17, 2), 1, 33, 3),
        case(RegionGrid::pad_first(8, 8, 2), 1, 64, 2),
        case(RegionGrid::pad_first(4, 6, 2), 2, 128, 3),
        case(odd, 3, 20, 8),
        Case { mask_padding: true, ..case(odd, 3, 20, 8) },
        Case { mask_padding: true, ..case(floor, 2, 16, floor.regions() - 1) },
    ]
}

impl Case {
    pub(super) fn name(&self) -> String {
        let Self { grid, num_heads, head_dim, topk, mask_padding } = self;
        format!("{grid:?}, {num_heads} × {head_dim}, topk {topk}, mask {mask_padding}")
    }

    fn options(&self) -> RoutedAttentionOptions {
        let Self { num_heads, mask_padding, .. } = *self;
        let scale = (self.head_dim as f64).powf(-0.5);
        RoutedAttentionOptions { num_heads, scale, mask_padding }
    }

    pub(super) fn qkv(&self, device: &Device) -> [Tensor<4>; 3] {
        let [height, width] = self.grid.padded_size();
        slices([2, height, width], self.num_heads * self.head_dim, device)
    }

    pub(super) fn attend(&self, [query, key, value]: [Tensor<4>; 3], device: &Device) -> Tensor<4> {
        let graph = some_graph(2, &self.grid, self.topk, device);
        routed_attention(query, key, value, graph, &self.grid, &self.options())
    }

    pub(super) fn attend_by_definition(
        &self,
        [query, key, value]: [Tensor<4>; 3],
        device: &Device,
    ) -> Tensor<4> {
        let graph = some_graph(2, &self.grid, self.topk, device);
        routed_attention_traced(query, key, value, graph, &self.grid, &self.options()).output
    }
}

#[test]
fn routed_attention_agrees() {
    for case in cases() {
        assert_agrees(&case.name(), SUMS, |device| {
            vec![("output", values(case.attend(case.qkv(device), device)))]
        });
    }
}

/// Without gradients it is the kernel that answers, to the bit: the definition rounds otherwise.
#[test]
fn routed_attention_is_fused() {
    let device = device();
    for case in cases() {
        let [query, key, value] = case.qkv(&device).map(Tensor::into_dispatch);
        let graph = some_graph(2, &case.grid, case.topk, &device).into_dispatch();
        let (grid, options) = (case.grid, case.options());
        let fused = Dispatch::gpu_routed_attention(query, key, value, graph, grid, options);
        let found = case.attend(case.qkv(&device), &device);
        assert_eq!(values(found), values(Tensor::<4>::from_dispatch(fused)), "{}", case.name());
    }
}

/// What the kernels do not take goes by the definition, and a caller can learn why.
#[test]
fn routed_attention_falls_back() {
    let grid = RegionGrid::pad_first(2, 2, 1);
    let case = Case { grid, num_heads: 1, head_dim: 160, topk: 1, mask_padding: false };
    let [query, key, value] = case.qkv(&device());
    let reason = check_fused_attention([&query, &key, &value], 1).expect_err("no kernel");
    assert_eq!(
        reason,
        "heads of 160 channels, more than the 128 that kernels of GPUs hold in registers"
    );
    assert_eq!(check_fused_attention([&query, &key, &value], 2), Ok(()));
    assert_agrees(&case.name(), SUMS, |device| {
        vec![("output", values(case.attend(case.qkv(device), device)))]
    });
}

#[test]
fn routed_attention_takes_any_layout() {
    let grid = RegionGrid::pad_first(4, 6, 2);
    let case = Case { grid, num_heads: 2, head_dim: 10, topk: 3, mask_padding: false };
    assert_agrees("channels first, and within a larger map", SUMS, |device| {
        let permuted = |seed| numbers([2, 20, 4, 6], seed, device).permute([0, 2, 3, 1]);
        let inner = numbers([3, 7, 6, 20], 3, device).slice([1..3, 2..6, 0..6]);
        let output = case.attend([permuted(1), inner, permuted(2)], device);
        vec![("output", values(output))]
    });
}

/// Logits far apart: all weight on one key, and none on most.
#[test]
fn routed_attention_takes_large_logits() {
    let grid = RegionGrid::pad_first(6, 6, 2);
    let case = Case { grid, num_heads: 2, head_dim: 16, topk: 3, mask_padding: false };
    // Logits near 3000 are exact to 2e-4, and so are the weights.
    assert_agrees("large logits", 1e-3, |device| {
        let qkv = case.qkv(device).map(|x| x.mul_scalar(20.0));
        vec![("output", values(case.attend(qkv, device)))]
    });
}

#[test]
fn routed_attention_with_lce_agrees() {
    let odd = RegionGrid::pad_first(7, 5, 3);
    for (grid, channels, mask_padding) in
        [(RegionGrid::pad_first(14, 14, 7), 32, false), (odd, 20, true)]
    {
        let options = RoutedAttentionOptions { num_heads: 2, scale: 0.2, mask_padding };
        let [height, width] = grid.padded_size();
        assert_agrees(&format!("{grid:?}, with LCE"), SUMS, |device| {
            let qkv = numbers([2, height, width, 3 * channels], 1, device);
            let weight = numbers([channels, 1, 5, 5], 2, device);
            let bias = numbers([1, 1, 1, channels], 3, device);
            let graph = some_graph(2, &grid, 4, device);
            let attend = |qkv, weight, bias| {
                routed_attention_lce(qkv, graph.clone(), weight, bias, &grid, &options)
            };
            let output = attend(qkv.clone(), weight.clone(), vector(bias.clone()));
            let mut results = vec![("output", values(output))];
            let inputs = [("qkv", qkv), ("weight", weight), ("bias", bias)];
            results.extend(with_gradients(inputs, |[qkv, weight, bias]| {
                attend(qkv, weight, vector(bias))
            }));
            results
        });
    }
}

#[test]
fn gradients_of_routed_attention_agree() {
    for case in cases() {
        assert_agrees(&case.name(), SUMS, |device| {
            let [query, key, value] = case.qkv(device);
            let inputs = [("query", query), ("key", key), ("value", value)];
            with_gradients(inputs, |qkv| case.attend(qkv, device))
        });
    }
}

#[test]
fn global_attention_agrees() {
    for ([height, width], num_heads, head_dim) in
        [([7, 7], 2, 64), ([1, 1], 3, 8), ([5, 3], 2, 33), ([13, 2], 1, 16)]
    {
        assert_agrees(&format!("{height} × {width}, {head_dim}"), SUMS, |device| {
            let [query, key, value] = slices([2, height, width], num_heads * head_dim, device);
            let inputs = [("query", query), ("key", key), ("value", value)];
            with_gradients(inputs, |[q, k, v]| global_attention(q, k, v, num_heads, 0.2))
        });
    }
}
