//! Sizes of the products of tiles in [`forward_tiles`](super::forward_tiles), as a device has them.

use burn_cubecl::cubecl;
use cubecl::ir::features::MmaConfig;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

/// Numbers between the rows of a tile in shared memory, so that neighbouring rows are not in the same bank; as many
/// as products want their rows to be aligned to.
const HALF_PADDING: usize = 8;
const FLOAT_PADDING: usize = 4;

/// Keys in shared memory, and tiles of queries that share them, at most.
const KEYS: usize = 64;
const PLANES: usize = 4;

/// Sizes of what a cube does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tiles {
    /// Rows, columns and inner numbers of a product.
    pub m: usize,
    pub n: usize,
    pub k: usize,
    plane_size: usize,
    planes: usize,
    /// Keys that are in shared memory at once, a multiple of `n` and `k`.
    pub keys: usize,
    pub head_dim: usize,
    /// `head_dim`, rounded up to a multiple of `n` and `k`.
    pub depth: usize,
}

impl Tiles {
    /// For regions of so many tokens that attend to so many keys, or `None` if a device has no such products or too
    /// little shared memory.
    pub fn new(
        client: &Client,
        elem: ElemType,
        head_dim: usize,
        tokens: usize,
        keys: usize,
    ) -> Option<Self> {
        let properties = client.properties();
        let hardware = &properties.hardware;
        // Float32 would be rounded, and where a device chooses the size of its planes, rows of a cube are none.
        if elem.size() != 2 || hardware.plane_size_min != hardware.plane_size_max {
            return None;
        }
        let configs = properties.features.matmul.cmma.iter();
        // The largest tile: 16 × 16 × 16 wherever there is a choice.
        let MmaConfig { m, n, k, .. } = configs
            .filter(|config| [config.a_type, config.b_type] == [elem; 2])
            .filter(|config| config.cd_type == ElemType::Float(FloatKind::F32))
            .filter(|config| [config.m, config.n, config.k].iter().all(|&size| size <= 16))
            .max_by_key(|config| (config.m * config.n * config.k, config.n))?;
        let [m, n, k] = [*m, *n, *k].map(|size| size as usize);
        let step = n.max(k);
        let largest = Self {
            m,
            n,
            k,
            plane_size: hardware.plane_size_max as usize,
            planes: tokens.div_ceil(m).min(PLANES),
            keys: keys.min(KEYS).next_multiple_of(step),
            head_dim,
            depth: head_dim.next_multiple_of(step),
        };
        let sizes = [PLANES, 2, 1].into_iter().flat_map(|planes| {
            [KEYS, KEYS / 2, step].map(|keys| Self {
                planes: planes.min(largest.planes),
                keys: keys.min(largest.keys),
                ..largest
            })
        });
        sizes.into_iter().find(|tiles| {
            tiles.shared_memory() <= hardware.max_shared_memory_size
                && tiles.units() <= hardware.max_units_per_cube as usize
        })
    }

    /// Units of a cube: a plane to a row of them.
    pub fn dim(&self) -> CubeDim {
        CubeDim::new_2d(self.plane_size as u32, self.planes as u32)
    }

    /// Units of a cube.
    pub fn units(&self) -> usize {
        self.plane_size * self.planes
    }

    /// Queries of a cube.
    pub fn rows(&self) -> usize {
        self.planes * self.m
    }

    /// Units that share a row in the softmax.
    pub fn parts(&self) -> usize {
        (self.plane_size / self.m).max(1)
    }

    /// Numbers from one row to the next of queries, keys and values.
    pub fn map_stride(&self) -> usize {
        self.depth + HALF_PADDING
    }

    pub fn weights_stride(&self) -> usize {
        self.keys + HALF_PADDING
    }

    /// Of logits, in whose place the sums are from time to time.
    pub fn logits_stride(&self) -> usize {
        self.keys.max(self.depth) + FLOAT_PADDING
    }

    /// Bytes.
    fn shared_memory(&self) -> usize {
        let halves =
            (self.rows() + 2 * self.keys) * self.map_stride() + self.rows() * self.weights_stride();
        let floats = self.rows() * (self.logits_stride() + 3 * self.parts() + 1);
        2 * halves + 4 * (floats + self.keys + 1)
    }
}
