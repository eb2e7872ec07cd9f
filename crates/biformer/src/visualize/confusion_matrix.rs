//! Which classes were taken for which, as a table of colours.

use std::collections::BTreeMap;

use colorous::{BLUES, Color};
use image::{Rgb, RgbImage};

use super::text::{CHAR_WIDTH, Direction, LINE_HEIGHT, Weight, draw, draw_text, shorten};

/// Up to here, every class has its name.
const NAMED: usize = 50;
/// Up to here, every cell has its number.
const NUMBERED: usize = 20;
/// Side of a cell with a name and no number.
const CELL: u32 = LINE_HEIGHT + 4;
/// Side of a table without names.
const UNNAMED: u32 = 1000;
/// Least side of a table: its title fits below.
const SMALLEST: u32 = 12 * CHAR_WIDTH;
/// Most room for a name.
const LONGEST_NAME: u32 = 24 * CHAR_WIDTH;
/// Around the picture, and between its parts.
const MARGIN: u32 = 16;
/// Between a text and what it belongs to.
const GAP: u32 = 8;
/// Width and least height of the scale of colours.
const SCALE: [u32; 2] = [18, 160];

const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const INK: Rgb<u8> = Rgb([32, 33, 36]);
const GRID: Rgb<u8> = Rgb([225, 226, 230]);

/// A confusion matrix to be drawn.
#[derive(Debug, Clone, Copy)]
pub struct Confusions<'a> {
    /// Names of the true classes, from top to bottom.
    pub rows: &'a [String],
    /// Names of the predicted classes, from left to right.
    pub columns: &'a [String],
    /// Pictures by row and column; cells that are not named hold none.
    pub counts: &'a BTreeMap<(usize, usize), usize>,
    /// Show the share of the row instead of counts, so that the diagonal is the recall.
    pub normalized: bool,
}

/// Draws a confusion matrix.
///
/// Up to 50 classes have their names and up to 20 their numbers. The colours follow the square
/// root, since confusions are few beside what is right and must be seen.
///
/// # Panics
/// If there are no rows or no columns, or a count lies outside of them.
pub fn draw_confusions(confusions: &Confusions<'_>) -> RgbImage {
    let Confusions { rows, columns, counts, normalized } = confusions;
    assert!(!rows.is_empty() && !columns.is_empty(), "classes: got: 0, expected: at least 1");
    let is_inside = |&(row, column): &(usize, usize)| row < rows.len() && column < columns.len();
    assert!(counts.keys().all(is_inside), "a count lies outside of the table");
    let (values, whole) = values(confusions);
    let layout = Layout::of(confusions, whole);
    let mut picture = RgbImage::from_pixel(layout.size[0], layout.size[1], PAPER);
    draw_titles(&mut picture, &layout, *normalized);

    let [left, top] = layout.corner;
    fill(&mut picture, layout.corner, layout.table, tint(0.0));
    // The greatest last: of more classes than pixels it is what shows.
    let mut cells: Vec<_> = values.into_iter().collect();
    cells.sort_by(|a, b| a.1.total_cmp(&b.1));
    for ((row, column), value) in cells {
        let strength = (value / whole).sqrt();
        let [x, y, width, height] = layout.cell(row, column);
        fill(&mut picture, [x, y], [width, height], tint(strength));
        if layout.is_numbered {
            let number = number(value, *normalized);
            let x = x + (width - text_width(&number)) / 2;
            let ink = if strength > 0.6 { PAPER } else { INK };
            draw_text(&mut picture, [x, y + (height - LINE_HEIGHT) / 2], &number, ink);
        }
    }
    if layout.is_named {
        draw_grid(&mut picture, &layout);
        for (row, name) in rows.iter().enumerate() {
            let name = shorten(name, LONGEST_NAME);
            let [_, y, _, height] = layout.cell(row, 0);
            let corner = [left - GAP - text_width(&name), y + (height - LINE_HEIGHT) / 2];
            draw_text(&mut picture, corner, &name, INK);
        }
        for (column, name) in columns.iter().enumerate() {
            let name = shorten(name, LONGEST_NAME);
            let [x, _, width, _] = layout.cell(0, column);
            let bottom = top + layout.table[1] + GAP + text_width(&name);
            let corner = [x + (width - LINE_HEIGHT) / 2, bottom];
            draw_upward(&mut picture, corner, &name);
        }
    }
    draw_scale(&mut picture, &layout, whole, *normalized);
    picture
}

/// What each cell shows, and what the darkest colour stands for.
fn values(confusions: &Confusions<'_>) -> (BTreeMap<(usize, usize), f64>, f64) {
    let Confusions { rows, counts, normalized, .. } = confusions;
    if !normalized {
        let greatest = counts.values().copied().max().unwrap_or(1).max(1);
        let values = counts.iter().map(|(&cell, &count)| (cell, count as f64)).collect();
        return (values, greatest as f64);
    }
    let mut sums = vec![0; rows.len()];
    for (&(row, _), count) in *counts {
        sums[row] += count;
    }
    let share = |row: usize, count: usize| count as f64 / sums[row].max(1) as f64;
    (counts.iter().map(|(&cell, &count)| (cell, share(cell.0, count))).collect(), 1.0)
}

/// Where everything lies, in pixels.
struct Layout {
    is_named: bool,
    is_numbered: bool,
    /// Rows and columns.
    cells: [usize; 2],
    /// Upper left corner of the table.
    corner: [u32; 2],
    /// Width and height of the table.
    table: [u32; 2],
    /// Below the table, with the names of the columns.
    names: u32,
    size: [u32; 2],
}

impl Layout {
    fn of(confusions: &Confusions<'_>, whole: f64) -> Self {
        let Confusions { rows, columns, normalized, .. } = confusions;
        let classes = rows.len().max(columns.len());
        let (is_named, is_numbered) = (classes <= NAMED, classes <= NUMBERED);
        let longest = |names: &[String]| {
            let widths = names.iter().map(|name| text_width(&shorten(name, LONGEST_NAME)));
            if is_named { widths.max().unwrap_or(0) + GAP } else { 0 }
        };
        let table = if is_named {
            let widest = text_width(&number(whole, *normalized)).max(text_width("0.00"));
            let cell = if is_numbered { widest + GAP } else { CELL };
            let cell = cell.max(SMALLEST / classes as u32);
            [columns.len() as u32 * cell, rows.len() as u32 * cell]
        } else {
            [UNNAMED, UNNAMED]
        };
        let corner = [MARGIN + LINE_HEIGHT + GAP + longest(rows), MARGIN + LINE_HEIGHT + MARGIN];
        let below = longest(columns);
        let scale = MARGIN
            + SCALE[0]
            + GAP
            + text_width(&number(whole, *normalized)).max(text_width("0.02"));
        let height = table[1].max(SCALE[1]).max(table[1] + below + GAP + LINE_HEIGHT);
        let width = (corner[0] + table[0] + scale).max(MARGIN + text_width(title(*normalized)));
        let size = [width + MARGIN, corner[1] + height + MARGIN];
        Self {
            is_named,
            is_numbered,
            cells: [rows.len(), columns.len()],
            corner,
            table,
            names: below,
            size,
        }
    }

    /// Corner, width and height of a cell, of at least one pixel.
    fn cell(&self, row: usize, column: usize) -> [u32; 4] {
        let [x, width] = part(self.table[0], column, self.cells[1]);
        let [y, height] = part(self.table[1], row, self.cells[0]);
        [self.corner[0] + x, self.corner[1] + y, width, height]
    }
}

/// Beginning and length of one of `parts` of `side` pixels.
fn part(side: u32, index: usize, parts: usize) -> [u32; 2] {
    let at = |index: usize| (index as u64 * u64::from(side) / parts as u64) as u32;
    [at(index), (at(index + 1) - at(index)).max(1)]
}

fn draw_titles(picture: &mut RgbImage, layout: &Layout, normalized: bool) {
    let ([left, top], [width, height]) = (layout.corner, layout.table);
    let corner = [MARGIN as i32; 2];
    draw(picture, corner, title(normalized), INK, Direction::Right, Weight::Bold);
    let [mut rows, mut columns] = ["true".to_owned(), "predicted".to_owned()];
    if !layout.is_named {
        rows.push_str(&format!(", {} classes", layout.cells[0]));
        columns.push_str(&format!(", {} classes", layout.cells[1]));
    }
    draw_upward(picture, [MARGIN, top + (height + text_width(&rows)) / 2], &rows);
    let x = left + width.saturating_sub(text_width(&columns)) / 2;
    draw_text(picture, [x, top + height + layout.names + GAP], &columns, INK);
}

fn title(normalized: bool) -> &'static str {
    if normalized { "Confusion matrix, share of each row" } else { "Confusion matrix, images" }
}

/// Lines around all cells.
fn draw_grid(picture: &mut RgbImage, layout: &Layout) {
    let ([left, top], [width, height]) = (layout.corner, layout.table);
    for column in 0..=layout.cells[1] {
        let x = left + part(width, column, layout.cells[1])[0];
        fill(picture, [x, top], [1, height], GRID);
    }
    for row in 0..=layout.cells[0] {
        let y = top + part(height, row, layout.cells[0])[0];
        fill(picture, [left, y], [width + 1, 1], GRID);
    }
}

/// What the colours mean, beside the table.
fn draw_scale(picture: &mut RgbImage, layout: &Layout, whole: f64, normalized: bool) {
    let [width, least] = SCALE;
    let height = layout.table[1].clamp(least, 400);
    let left = layout.corner[0] + layout.table[0] + MARGIN;
    let top = layout.corner[1];
    for y in 0..height {
        let strength = 1.0 - f64::from(y) / f64::from(height - 1);
        fill(picture, [left, top + y], [width, 1], tint(strength));
    }
    let mut before = None;
    for share in [1.0, 0.5, 0.25, 0.1, 0.02, 0.0] {
        // Counts are whole; of small ones some marks fall together.
        let value = if normalized { share } else { (share * whole).round() };
        if before != Some(value) {
            let strength = (value / whole).sqrt();
            let y = top + ((1.0 - strength) * f64::from(height - 1)).round() as u32;
            fill(picture, [left + width, y], [4, 1], INK);
            let corner = [left + width + GAP, y.saturating_sub(LINE_HEIGHT / 2)];
            draw_text(picture, corner, &number(value, normalized), INK);
        }
        before = Some(value);
    }
}

fn number(value: f64, normalized: bool) -> String {
    if normalized { format!("{value:.2}") } else { format!("{value:.0}") }
}

/// 0 is nearly white, 1 dark blue.
fn tint(strength: f64) -> Rgb<u8> {
    let Color { r, g, b } = BLUES.eval_continuous(strength.clamp(0.0, 1.0));
    Rgb([r, g, b])
}

fn text_width(text: &str) -> u32 {
    text.chars().count() as u32 * CHAR_WIDTH
}

fn draw_upward(picture: &mut RgbImage, [x, y]: [u32; 2], text: &str) {
    draw(picture, [x as i32, y as i32], text, INK, Direction::Up, Weight::Regular);
}

fn fill(picture: &mut RgbImage, [left, top]: [u32; 2], [width, height]: [u32; 2], color: Rgb<u8>) {
    for y in top..(top + height).min(picture.height()) {
        for x in left..(left + width).min(picture.width()) {
            picture.put_pixel(x, y, color);
        }
    }
}
