//! Region graphs.

use biformer_ops::{RegionGrid, RoutingOptions, route, route_reference};
use burn::tensor::{Device, Tensor};

use crate::attention::slices;

/// Means and affinities differ by roundings, and so routing may differ where two regions are as
/// good as each other; with random numbers none are.
#[test]
fn routing_chooses_the_same_regions() {
    for grid in [
        RegionGrid::pad_first(14, 14, 7),
        RegionGrid::pad_first(7, 5, 3),
        RegionGrid::pad_first(9, 10, 4),
        RegionGrid::floor(9, 11, 4),
        RegionGrid::pad_first(2, 3, 1),
    ] {
        let [height, width] = grid.padded_size();
        for channels in [4, 33, 256] {
            let [query, key, _] = slices([2, height, width], channels);
            for topk in [1, 3, 1000] {
                for (exclude_padding, mask_padding) in [(false, false), (true, false), (true, true)]
                {
                    let options = RoutingOptions { topk, exclude_padding, mask_padding };
                    let found = route(&query, &key, &grid, &options);
                    let expected = route_reference(&query, &key, &grid, &options);
                    let what = format!("{grid:?}, {channels} channels, {options:?}");
                    assert_eq!(found.dtype(), expected.dtype(), "{what}");
                    assert_eq!(found.dims(), expected.dims(), "{what}");
                    // Regions of nothing but padding are last, in any order.
                    let (found, expected) = (found.into_data(), expected.into_data());
                    if !(mask_padding && topk > 3) {
                        assert_eq!(found, expected, "{what}");
                    }
                }
            }
        }
    }
}

/// Equal affinities: the first regions.
#[test]
fn routing_prefers_the_first_of_equals() {
    let ones = Tensor::<4>::ones([1, 8, 8, 5], &Device::default());
    let grid = RegionGrid::pad_first(8, 8, 4);
    let options = RoutingOptions { topk: 3, ..RoutingOptions::default() };
    let graph = route(&ones, &ones, &grid, &options).into_data_as::<i64>();
    let graph: Vec<i64> = graph.try_into_vec().expect("integers");
    assert_eq!(graph, [0, 1, 2].repeat(16));
}
