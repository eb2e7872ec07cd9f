//! Polygons to masks, with the pixels that pycocotools gives.
//!
//! The corners are put on a grid five times as fine as the pixels, and joined by lines that take one
//! step of the grid at a time along the longer axis. Where a line crosses the middle of a column of
//! pixels, the mask begins or ends in that column (even-odd rule).

use super::rle::Rle;

/// Steps of the fine grid in a pixel.
const FINE: i64 = 5;

/// The step of the grid in a pixel behind which its middle lies.
const MIDDLE: i64 = FINE / 2;

/// Corners farther from the picture than this many pixels are drawn here: lines of any length would
/// take any time.
const FARTHEST: f64 = 1e5;

/// The mask of a polygon with corners x, y, x, y …, in pixels; `size` is height and width.
///
/// Less than three corners, or half of one, give no mask.
pub fn rasterize(polygon: &[f64], size: [u32; 2]) -> Rle {
    let (corners, half) = polygon.as_chunks::<2>();
    if corners.len() < 3 || !half.is_empty() {
        return Rle::empty(size);
    }
    let on_grid = |at: f64| (FINE as f64 * at.clamp(-FARTHEST, FARTHEST) + 0.5) as i64;
    let corners: Vec<_> = corners.iter().map(|corner| corner.map(on_grid)).collect();
    let mut borders = Vec::new();
    for (place, &corner) in corners.iter().enumerate() {
        add_borders(corner, corners[(place + 1) % corners.len()], size, &mut borders);
    }
    borders.sort_unstable();
    Rle::from_borders(size, borders)
}

/// Adds the pixels, counted down the columns, at which the line from `a` to `b` crosses a column.
fn add_borders(a: [i64; 2], b: [i64; 2], [height, width]: [u32; 2], borders: &mut Vec<u32>) {
    let long = usize::from((b[0] - a[0]).abs() < (b[1] - a[1]).abs());
    // The same pixels in both directions.
    let (from, to) = if a[long] <= b[long] { (a, b) } else { (b, a) };
    let steps = to[long] - from[long];
    let slope = (to[1 - long] - from[1 - long]) as f64 / steps as f64;
    let point = |step: i64| {
        let mut point = from;
        point[long] += step;
        point[1 - long] = (from[1 - long] as f64 + slope * step as f64 + 0.5) as i64;
        point
    };
    for step in 0..steps {
        let (here, next) = (point(step), point(step + 1));
        let left = here[0].min(next[0]);
        let column = (left - MIDDLE) / FINE;
        let is_middle = left >= MIDDLE && (left - MIDDLE) % FINE == 0;
        if here[0] != next[0] && is_middle && column < i64::from(width) {
            // The first pixel whose middle is not above the line.
            let row = (here[1].min(next[1]) + FINE - 1 - MIDDLE).max(0) / FINE;
            borders.push(column as u32 * height + (row as u32).min(height));
        }
    }
}
