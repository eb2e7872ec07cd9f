//! The recorder of operator times. One test, because there is one recorder a process.

use biformer_ops::profile::{self, Class};
use biformer_ops::{RegionGrid, RoutedAttentionOptions, RoutingOptions, gelu, route};
use biformer_ops::{routed_attention, routed_attention_traced};
use burn::tensor::{Device, Distribution, Tensor};

#[test]
fn it_counts_operators_while_it_is_on() {
    let device = Device::default();
    let random = || Tensor::<4>::random([1, 8, 8, 16], Distribution::Default, &device);
    let _ = gelu(random());
    assert_eq!(profile::report(), [], "it starts switched off");

    profile::start();
    let grid = RegionGrid::pad_first(8, 8, 4);
    let options = RoutedAttentionOptions { num_heads: 2, scale: 0.25, mask_padding: false };
    let graph = route(&random(), &random(), &grid, &RoutingOptions::default());
    let [q, k, v] = std::array::from_fn(|_| random());
    let (queries, keys, values) = (q.clone(), k.clone(), v.clone());
    let _ = routed_attention(queries, keys, values, graph.clone(), &grid, &options);
    let _ = routed_attention_traced(q, k, v, graph, &grid, &options);
    let x = random().autodiff().require_grad();
    let _ = gelu(x).sum().backward();
    let entries = profile::report();

    let calls: Vec<(Class, u64)> = entries.iter().map(|e| (e.class, e.calls)).collect();
    // One operator within another counts once; GELU ran forward and backward.
    assert_eq!(calls, [(Class::RoutedAttention, 2), (Class::Routing, 1), (Class::Gelu, 2)]);
    assert!(entries.iter().all(|entry| !entry.time.is_zero()), "{entries:?}");

    let _ = gelu(random());
    assert_eq!(profile::report(), entries, "it is off after a report");
    profile::start();
    assert_eq!(profile::report(), [], "it starts from zero");
}
