//! Masks of boxes back into the picture (mmdetection's `_do_paste_mask`).

use image::Luma;

use super::boxes::Xyxy;
use crate::data::detection::Bitmap;

/// The mask of a box, brought from its cells to the pixels of the picture.
///
/// Each pixel is bilinear between the four nearest cells; beyond the outermost centres cells fade to 0.
///
/// # Shapes
/// - probabilities: `[cells, cells]`, row by row
/// - size: `[height, width]` of the picture
/// - output: `[height, width]`, 1 where the mask is at least `threshold`
///
/// # Panics
/// If there are not `cells` × `cells` probabilities.
pub fn paste_mask(
    probabilities: &[f32],
    cells: usize,
    [x1, y1, x2, y2]: Xyxy,
    [height, width]: [usize; 2],
    threshold: f32,
) -> Bitmap {
    let count = probabilities.len();
    assert_eq!(count, cells * cells, "paste_mask: got {count} cells, expected {cells} × {cells}");
    let mut mask = Bitmap::new(width as u32, height as u32);
    let columns = places([x1, x2], cells, width);
    for row in places([y1, y2], cells, height) {
        let [above, below] = row.cells.map(|cell| cell.map(|cell| &probabilities[cell * cells..]));
        for column in &columns {
            let in_row = |row: Option<&[f32]>| {
                let value =
                    |cell: Option<usize>| row.zip(cell).map_or(0.0, |(row, cell)| row[cell]);
                let [left, right] = column.cells.map(value);
                left + (right - left) * column.part
            };
            let (above, below) = (in_row(above), in_row(below));
            let probability = above + (below - above) * row.part;
            let pixel = Luma([u8::from(probability >= threshold)]);
            mask.put_pixel(column.pixel as u32, row.pixel as u32, pixel);
        }
    }
    mask
}

/// A pixel along one side, and the cells around its centre.
struct Place {
    pixel: usize,
    /// None beyond the first or the last one.
    cells: [Option<usize>; 2],
    /// From the centre of the first of the two to that of the second.
    part: f32,
}

/// The pixels whose centres lie at most a cell outside of a box.
fn places([start, end]: [f32; 2], cells: usize, pixels: usize) -> Vec<Place> {
    let length = end - start;
    if length.is_nan() || length <= 0.0 {
        return Vec::new();
    }
    // The official code looks at whole pixels and one more.
    let first = (start.floor() - 1.0).max(0.0) as usize;
    let last = ((end.ceil() + 1.0).max(0.0) as usize).min(pixels);
    let place = |pixel: usize| {
        let centre = pixel as f32 + 0.5;
        let place = (centre - start) / length * cells as f32 - 0.5;
        let before = place.floor();
        let cell = |cell: f32| (0.0..cells as f32).contains(&cell).then_some(cell as usize);
        Place { pixel, cells: [cell(before), cell(before + 1.0)], part: place - before }
    };
    (first..last).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_become_pixels() {
        // Two by two cells of two by two pixels, one pixel from the corner: along each side the first cell gives
        // its pixels 3/4, so that each has 9/16, and the next pixel 1/4.
        let mask =
            paste_mask(&[1.0, 0.0, 0.0, 0.0], 2, [1.0, 1.0, 5.0, 5.0], [6, 6], 0.5).into_raw();
        let expected = [[0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0]];
        assert_eq!(mask[..18], expected.concat());
        assert!(mask[18..].iter().all(|&pixel| pixel == 0));
    }

    #[test]
    fn boxes_outside_and_without_area_are_empty() {
        for bbox in [[20.0, 20.0, 30.0, 30.0], [2.0, 2.0, 2.0, 4.0], [-9.0, -9.0, -4.0, -4.0]] {
            let mask = paste_mask(&[1.0; 4], 2, bbox, [6, 6], 0.5);
            assert!(mask.pixels().all(|pixel| pixel.0 == [0]));
        }
    }
}
