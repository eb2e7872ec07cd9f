//! Pictures that `plotters` draws on, with our own text: no font has to be installed, and none to
//! be read.

use std::convert::Infallible;

use image::{Rgb, RgbImage};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontStyle, FontTransform,
};

use super::text::{CHAR_WIDTH, Direction, LINE_HEIGHT, Weight, blend, draw};

/// A picture to draw charts on.
pub(super) struct Canvas<'a>(pub(super) &'a mut RgbImage);

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl DrawingBackend for Canvas<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.0.dimensions()
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Drawn {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return Ok(()) };
        if let Some(pixel) = self.0.get_pixel_mut_checked(x, y) {
            let ink = (255.0 * color.alpha.clamp(0.0, 1.0)).round();
            *pixel = blend(*pixel, rgb(color), ink as u8);
        }
        Ok(())
    }

    /// Smooth at any width, which those of `plotters` are not.
    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        let points: Vec<BackendCoord> = path.into_iter().collect();
        for ends in points.windows(2) {
            self.draw_segment([ends[0], ends[1]], style);
        }
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Drawn {
        let (width, height) = size(text);
        let along = match style.anchor().h_pos {
            HPos::Left => 0,
            HPos::Center => -width / 2,
            HPos::Right => -width,
        };
        let across = match style.anchor().v_pos {
            VPos::Top => 0,
            VPos::Center => -height / 2,
            VPos::Bottom => -height,
        };
        let (direction, corner) = match style.transform() {
            FontTransform::Rotate270 => (Direction::Up, [x + across, y - along]),
            _ => (Direction::Right, [x + along, y + across]),
        };
        let weight = match style.style() {
            FontStyle::Bold => Weight::Bold,
            _ => Weight::Regular,
        };
        draw(self.0, corner, text, rgb(style.color()), direction, weight);
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        _: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let (width, height) = size(text);
        Ok((width.unsigned_abs(), height.unsigned_abs()))
    }
}

impl Canvas<'_> {
    /// Inks each pixel by how much of it lies within half the width of the segment.
    fn draw_segment(&mut self, [from, to]: [BackendCoord; 2], style: &impl BackendStyle) {
        let radius = f64::from(style.stroke_width()) / 2.0;
        let reach = radius.ceil() as i32 + 1;
        let color = style.color();
        for y in from.1.min(to.1) - reach..=from.1.max(to.1) + reach {
            for x in from.0.min(to.0) - reach..=from.0.max(to.0) + reach {
                let coverage = (radius + 0.5 - distance((x, y), from, to)).clamp(0.0, 1.0);
                if coverage > 0.0 {
                    let color = BackendColor { alpha: color.alpha * coverage, ..color };
                    let _ = self.draw_pixel((x, y), color); // infallible
                }
            }
        }
    }
}

/// From a point to a segment.
fn distance(point: BackendCoord, from: BackendCoord, to: BackendCoord) -> f64 {
    let difference =
        |a: BackendCoord, b: BackendCoord| (f64::from(a.0 - b.0), f64::from(a.1 - b.1));
    let ((dx, dy), (px, py)) = (difference(to, from), difference(point, from));
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 { ((px * dx + py * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
    (px - along * dx).hypot(py - along * dy)
}

fn rgb(color: BackendColor) -> Rgb<u8> {
    let (red, green, blue) = color.rgb;
    Rgb([red, green, blue])
}

fn size(text: &str) -> (i32, i32) {
    (text.chars().count() as i32 * CHAR_WIDTH as i32, LINE_HEIGHT as i32)
}
