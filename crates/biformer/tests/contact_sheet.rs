//! The contact sheet: size, frames, and captions that stay in their tile.

use biformer::visualize::{Tile, contact_sheet};
use image::{Rgb, RgbImage};

/// Tile side with frame, gap, space above the caption, height of a line.
const SIDE: u32 = 136;
const GAP: u32 = 12;
const CAPTION: u32 = 3;
const LINE: u32 = 16;

fn picture() -> RgbImage {
    RgbImage::from_pixel(64, 64, Rgb([10, 20, 200]))
}

fn tile<'a>(image: &'a RgbImage, label: Option<&'a str>, prediction: &'a str) -> Tile<'a> {
    Tile { image, label, prediction, probability: 0.875 }
}

#[test]
fn the_sheet_is_as_large_as_its_grid() {
    let picture = picture();
    for (count, columns, grid) in [(1, 8, (1, 1)), (7, 3, (3, 3)), (64, 8, (8, 8))] {
        let right = vec![tile(&picture, Some("star"), "star"); count];
        let height = SIDE + CAPTION + LINE;
        let expected = (GAP + grid.0 * (SIDE + GAP), GAP + grid.1 * (height + GAP));
        assert_eq!(contact_sheet(&right, columns).dimensions(), expected);
    }
}

#[test]
fn a_wrong_tile_adds_a_line_for_the_truth() {
    let picture = picture();
    let right = contact_sheet(&[tile(&picture, Some("star"), "star")], 1);
    let wrong = contact_sheet(&[tile(&picture, Some("ring"), "star")], 1);
    assert_eq!(wrong.height(), right.height() + LINE);
}

#[test]
fn frames_tell_right_wrong_and_unknown() {
    let picture = picture();
    let frame = |label| *contact_sheet(&[tile(&picture, label, "star")], 1).get_pixel(GAP, GAP);
    let Rgb([red, green, _]) = frame(Some("star"));
    assert!(green > 2 * red);
    let Rgb([red, green, _]) = frame(Some("ring"));
    assert!(red > 2 * green);
    let Rgb([red, green, _]) = frame(None);
    assert!(red.abs_diff(green) < 10);
}

/// Whatever the names, no ink leaves the tile: the gap around it stays paper.
#[test]
fn long_names_are_shortened() {
    let picture = picture();
    let long = "Größter Schweizer Sennenhund, 日本, very long indeed";
    let sheet = contact_sheet(&[tile(&picture, Some("a name that is too long"), long)], 1);
    let paper = *sheet.get_pixel(0, 0);
    for y in 0..sheet.height() {
        for x in (0..GAP).chain(sheet.width() - GAP..sheet.width()) {
            assert_eq!(*sheet.get_pixel(x, y), paper, "at ({x}, {y})");
        }
    }
}

#[test]
fn pictures_keep_their_proportions() {
    let wide = RgbImage::from_pixel(200, 50, Rgb([10, 20, 200]));
    let sheet = contact_sheet(&[tile(&wide, None, "star")], 1);
    let middle = GAP + SIDE / 2;
    assert_eq!(*sheet.get_pixel(middle, middle), Rgb([10, 20, 200]));
    assert_ne!(*sheet.get_pixel(middle, middle - 30), Rgb([10, 20, 200]));
}

#[test]
#[should_panic(expected = "tiles: got: 0")]
fn no_tiles_is_a_mistake() {
    contact_sheet(&[], 4);
}
