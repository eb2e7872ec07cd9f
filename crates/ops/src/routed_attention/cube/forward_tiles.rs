//! O = softmax(scale · Q Kᵍᵀ) Vᵍ on tensor cores, for maps of half the bytes.
//!
//! One cube = some query tokens of one region and head, a tile of them to each plane. Routed keys and values pass
//! through shared memory, some at a time, and are there for all planes; so do the logits, since no unit knows which numbers
//! of a fragment it has. The online softmax rescales the sums only if a larger logit has come.

use burn_cubecl::cubecl;
use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;

use super::heads::routed;
use super::tiles::Tiles;
use crate::gpu::{Grid, LOWEST, at, start};

/// Bytes to a multiple of which CUDA wants a tile to begin; rows of tiles begin at multiples of 16.
const ALIGNMENT: usize = 32;

/// In the place of a key that does not exist or is masked.
const NO_KEY: u32 = u32::MAX;

/// # Shapes
/// - query, key, value: `[batch, rows * region_height, cols * region_width, channels]`, of any strides
/// - region_graph: `[batch, regions, topk]`
/// - output: like `query`
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "a kernel takes no options")]
pub(super) fn attend_tiles<E: Float, I: Int, N: Size>(
    query: &Tensor<Vector<E, N>>,
    key: &Tensor<Vector<E, N>>,
    value: &Tensor<Vector<E, N>>,
    region_graph: &Tensor<I>,
    output: &mut Tensor<Vector<E, N>>,
    factor: f32,
    grid: &Grid,
    #[comptime] tiles: Tiles,
    #[comptime] mask_padding: bool,
    #[define(E, I)] _types: [ElemType; 2],
) {
    let vector_size = query.vector_size();
    let rows = comptime!(tiles.rows());
    let parts = comptime!(tiles.parts());
    let map_stride = comptime!(tiles.map_stride() / vector_size);
    let mut queries = shared::<Vector<E, N>>(comptime!(rows * map_stride));
    let mut keys = shared::<Vector<E, N>>(comptime!(tiles.keys * map_stride));
    let mut values = shared::<Vector<E, N>>(comptime!(tiles.keys * map_stride));
    let mut weights = shared::<E>(comptime!(rows * tiles.weights_stride()));
    // Logits, and the sums where units scale or write them.
    let mut numbers = shared::<f32>(comptime!(rows * tiles.logits_stride()));
    let mut places = Shared::<[u32]>::new_slice(comptime!(tiles.keys));
    let mut softmax = Softmax {
        // One for each row and unit that has a part of it.
        part_max: Shared::<[f32]>::new_slice(comptime!(rows * parts)),
        max: Shared::<[f32]>::new_slice(comptime!(rows * parts)),
        sum: Shared::<[f32]>::new_slice(comptime!(rows * parts)),
        // One for each row, and one for all.
        shrink: Shared::<[f32]>::new_slice(rows),
        has_shrunk: Shared::<[u32]>::new_slice(1usize),
    };

    let num_heads = query.shape(3) / comptime!(tiles.head_dim);
    let regions = region_graph.shape(1);
    let tokens = grid.tokens();
    let blocks = tokens.div_ceil(rows);
    if CUBE_POS >= query.shape(0) * regions * num_heads * blocks {
        terminate!();
    }
    let first = CUBE_POS % blocks * rows;
    let channel = CUBE_POS / blocks % num_heads * comptime!(tiles.head_dim);
    let region = CUBE_POS / (blocks * num_heads) % regions;
    let image = CUBE_POS / (blocks * num_heads * regions);
    let unit = UNIT_POS as usize;
    let units = comptime!(tiles.units());
    let depth_vectors = comptime!(tiles.depth / vector_size);
    let head_vectors = comptime!(tiles.head_dim / vector_size);
    // Where this plane's tile begins.
    let row_of_plane = UNIT_POS_Y as usize * comptime!(tiles.m);

    let query_start = start(query, image, channel);
    let mut i = unit;
    while i < comptime!(rows * depth_vectors) {
        let (row, c) = (i / depth_vectors, i % depth_vectors);
        let mut vector = Vector::<E, N>::new(E::from_int(0));
        if first + row < tokens && c < head_vectors {
            let (y, x) = grid.token(region, first + row);
            vector = query[at(query, query_start, y, x) + c * query.stride(3)];
        }
        queries[row * map_stride + c] = vector;
        i += units;
    }
    softmax.begin(tiles);
    sync_cube();

    let mut query_tiles = Sequence::<Matrix<Vector<E, N>>>::new();
    #[unroll]
    for d in 0..comptime!(tiles.depth / tiles.k) {
        let from = row_of_plane * map_stride + comptime!(d * tiles.k / vector_size);
        let stride = comptime!(tiles.map_stride());
        query_tiles.push(load_tile(
            &queries,
            from,
            stride,
            MatrixIdent::A,
            MatrixLayout::RowMajor,
            tiles,
        ));
    }
    let mut sums = Sequence::<Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(tiles.depth / tiles.n) {
        sums.push(zero_tile(tiles));
    }

    let key_start = start(key, image, channel);
    let value_start = start(value, image, channel);
    let total = region_graph.shape(2) * tokens;
    for step in 0..total.div_ceil(comptime!(tiles.keys)) {
        let mut row = unit;
        while row < comptime!(tiles.keys) {
            let number = step * comptime!(tiles.keys) + row;
            let mut place = NO_KEY.runtime();
            if number < total {
                let of = routed(region_graph, image, region, number / tokens);
                let (y, x) = grid.token(of, number % tokens);
                let mut exists = true;
                if comptime!(mask_padding) {
                    exists = !grid.is_padding(y, x);
                }
                if exists {
                    place = (y as u32) << 16u32 | x as u32;
                }
            }
            places[row] = place;
            row += units;
        }
        sync_cube();

        let mut i = unit;
        while i < comptime!(tiles.keys * depth_vectors) {
            let (row, c) = (i / depth_vectors, i % depth_vectors);
            let mut key_vector = Vector::<E, N>::new(E::from_int(0));
            let mut value_vector = Vector::<E, N>::new(E::from_int(0));
            let place = places[row];
            if place != NO_KEY && c < head_vectors {
                let (y, x) = ((place >> 16u32) as usize, (place & 0xffffu32) as usize);
                key_vector = key[at(key, key_start, y, x) + c * key.stride(3)];
                value_vector = value[at(value, value_start, y, x) + c * value.stride(3)];
            }
            keys[row * map_stride + c] = key_vector;
            values[row * map_stride + c] = value_vector;
            i += units;
        }
        sync_cube();

        for column in 0..comptime!(tiles.keys / tiles.n) {
            let logits = zero_tile(tiles);
            #[unroll]
            for d in 0..comptime!(tiles.depth / tiles.k) {
                let from =
                    column * comptime!(tiles.n * map_stride) + comptime!(d * tiles.k / vector_size);
                let stride = comptime!(tiles.map_stride());
                let key_tile =
                    load_tile(&keys, from, stride, MatrixIdent::B, MatrixLayout::ColMajor, tiles);
                cmma::execute(&query_tiles[d], &key_tile, &logits, &logits);
            }
            let to = row_of_plane * comptime!(tiles.logits_stride()) + column * comptime!(tiles.n);
            store_tile(&logits, &mut numbers, to, tiles);
        }
        sync_cube();

        softmax.weigh::<E>(&numbers, factor, &places, &mut weights, tiles);
        if softmax.has_shrunk[0] == 1 {
            store_tiles(&sums, &mut numbers, row_of_plane, tiles);
            sync_cube();
            softmax.scale(&mut numbers, tiles);
            sync_cube();
            #[unroll]
            for d in 0..comptime!(tiles.depth / tiles.n) {
                let from = row_of_plane * comptime!(tiles.logits_stride()) + comptime!(d * tiles.n);
                cmma::load_with_layout(
                    &mut sums[d],
                    &numbers[from..numbers.len()],
                    comptime!(tiles.logits_stride() as u32),
                    MatrixLayout::RowMajor,
                );
            }
        }

        for j in 0..comptime!(tiles.keys / tiles.k) {
            let from = row_of_plane * comptime!(tiles.weights_stride()) + j * comptime!(tiles.k);
            let stride = comptime!(tiles.weights_stride());
            let weight_tile =
                load_tile(&weights, from, stride, MatrixIdent::A, MatrixLayout::RowMajor, tiles);
            #[unroll]
            for d in 0..comptime!(tiles.depth / tiles.n) {
                let from =
                    j * comptime!(tiles.k * map_stride) + comptime!(d * tiles.n / vector_size);
                let stride = comptime!(tiles.map_stride());
                let value_tile =
                    load_tile(&values, from, stride, MatrixIdent::B, MatrixLayout::RowMajor, tiles);
                cmma::execute(&weight_tile, &value_tile, &sums[d], &sums[d]);
            }
        }
        sync_cube();
    }

    store_tiles(&sums, &mut numbers, row_of_plane, tiles);
    sync_cube();
    let output_start = start(&*output, image, channel);
    let mut i = unit;
    while i < comptime!(rows * head_vectors) {
        let (row, c) = (i / head_vectors, i % head_vectors);
        if first + row < tokens {
            let from = row * comptime!(tiles.logits_stride()) + c * vector_size;
            let mut vector = Vector::<f32, N>::new(0.0f32);
            #[unroll]
            for lane in 0..vector_size {
                vector.insert(lane, numbers[from + lane]);
            }
            let (y, x) = grid.token(region, first + row);
            let place = at(&*output, output_start, y, x) + c * output.stride(3);
            output[place] = Vector::cast_from(vector / Vector::new(softmax.total(row, tiles)));
        }
        i += units;
    }
}

/// The online softmax of the rows of a cube, in shared memory.
#[derive(CubeType)]
struct Softmax {
    part_max: Shared<[f32]>,
    max: Shared<[f32]>,
    sum: Shared<[f32]>,
    shrink: Shared<[f32]>,
    has_shrunk: Shared<[u32]>,
}

#[cube]
impl Softmax {
    fn begin(&mut self, #[comptime] tiles: Tiles) {
        let mut i = UNIT_POS as usize;
        while i < comptime!(tiles.rows() * tiles.parts()) {
            self.max[i] = f32::new(LOWEST);
            self.sum[i] = 0.0f32;
            i += comptime!(tiles.units());
        }
    }

    /// Weights of the keys in shared memory, and by how much those before shrink. Units meet before it returns.
    fn weigh<E: Float>(
        &mut self,
        logits: &Shared<[f32]>,
        factor: f32,
        places: &Shared<[u32]>,
        weights: &mut Shared<[E]>,
        #[comptime] tiles: Tiles,
    ) {
        let parts = comptime!(tiles.parts());
        let mut i = UNIT_POS as usize;
        while i < comptime!(tiles.rows() * parts) {
            let (row, part) = (i / parts, i % parts);
            let mut largest = f32::new(LOWEST);
            let mut column = part;
            while column < comptime!(tiles.keys) {
                if places[column] != NO_KEY {
                    let logit = factor * logits[row * comptime!(tiles.logits_stride()) + column];
                    largest = select(logit > largest, logit, largest);
                }
                column += parts;
            }
            self.part_max[i] = largest;
            i += comptime!(tiles.units());
        }
        if UNIT_POS == 0 {
            self.has_shrunk[0] = 0u32;
        }
        sync_cube();

        let mut i = UNIT_POS as usize;
        while i < comptime!(tiles.rows() * parts) {
            let (row, part) = (i / parts, i % parts);
            let before = self.max[i];
            let mut largest = before;
            #[unroll]
            for other in 0..parts {
                let other = self.part_max[row * parts + other];
                largest = select(other > largest, other, largest);
            }
            let shrink = (before - largest).exp();
            let mut sum = self.sum[i] * shrink;
            let mut column = part;
            while column < comptime!(tiles.keys) {
                let mut weight = 0.0f32;
                if places[column] != NO_KEY {
                    let logit = factor * logits[row * comptime!(tiles.logits_stride()) + column];
                    weight = (logit - largest).exp();
                }
                sum += weight;
                weights[row * comptime!(tiles.weights_stride()) + column] = E::cast_from(weight);
                column += parts;
            }
            self.max[i] = largest;
            self.sum[i] = sum;
            if part == 0 {
                self.shrink[row] = shrink;
                // Before the first keys there is nothing to scale.
                if largest > before && before > f32::new(LOWEST) {
                    self.has_shrunk[0] = 1u32;
                }
            }
            i += comptime!(tiles.units());
        }
        sync_cube();
    }

    /// Shrinks sums, which lie where the logits were.
    fn scale(&self, sums: &mut Shared<[f32]>, #[comptime] tiles: Tiles) {
        let mut i = UNIT_POS as usize;
        while i < comptime!(tiles.rows() * tiles.depth) {
            let row = i / comptime!(tiles.depth);
            let place = row * comptime!(tiles.logits_stride()) + i % comptime!(tiles.depth);
            sums[place] *= self.shrink[row];
            i += comptime!(tiles.units());
        }
    }

    /// The sum of the weights of a row.
    fn total(&self, row: usize, #[comptime] tiles: Tiles) -> f32 {
        let mut total = 0.0f32;
        #[unroll]
        for part in 0..comptime!(tiles.parts()) {
            total += self.sum[row * comptime!(tiles.parts()) + part];
        }
        total
    }
}

/// Shared memory that products read or write.
#[cube]
fn shared<T: CubePrimitive>(#[comptime] len: usize) -> Shared<[T]> {
    Shared::<[T]>::new_aligned_slice(len, ALIGNMENT)
}

/// A factor of a product, from a number or vector of shared memory on.
#[cube]
fn load_tile<T: CubePrimitive>(
    numbers: &Shared<[T]>,
    from: usize,
    #[comptime] stride: usize,
    #[comptime] factor: MatrixIdent,
    #[comptime] layout: MatrixLayout,
    #[comptime] tiles: Tiles,
) -> Matrix<T> {
    Matrix::<T>::from_slice(
        factor,
        comptime!(tiles.m),
        comptime!(tiles.n),
        comptime!(tiles.k),
        layout,
        &numbers[from..numbers.len()],
        comptime!(stride as u32),
    )
}

#[cube]
fn zero_tile(#[comptime] tiles: Tiles) -> Matrix<f32> {
    Matrix::<f32>::from_value(
        MatrixIdent::Accumulator,
        comptime!(tiles.m),
        comptime!(tiles.n),
        comptime!(tiles.k),
        MatrixLayout::Undefined,
        0.0f32,
    )
}

#[cube]
fn store_tile(
    tile: &Matrix<f32>,
    numbers: &mut Shared<[f32]>,
    to: usize,
    #[comptime] tiles: Tiles,
) {
    let (len, stride) = (numbers.len(), comptime!(tiles.logits_stride() as u32));
    cmma::store(&mut numbers[to..len], tile, stride, MatrixLayout::RowMajor);
}

/// The sums of a plane, where units can read them.
#[cube]
fn store_tiles(
    sums: &Sequence<Matrix<f32>>,
    numbers: &mut Shared<[f32]>,
    row_of_plane: usize,
    #[comptime] tiles: Tiles,
) {
    #[unroll]
    for d in 0..comptime!(tiles.depth / tiles.n) {
        let to = row_of_plane * comptime!(tiles.logits_stride()) + comptime!(d * tiles.n);
        store_tile(&sums[d], numbers, to, tiles);
    }
}
