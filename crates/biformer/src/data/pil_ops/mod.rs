//! The Pillow operations that RandAugment draws from, with Pillow's rounding.
//!
//! [`mod@color`] maps levels and leaves every pixel in its place; [`geometry`] moves pixels and leaves
//! the levels alone. Each operation is a plain function from picture to picture; the strengths are
//! chosen elsewhere.

pub mod color;
pub mod geometry;

pub use color::{
    autocontrast, brightness, color, contrast, equalize, invert, posterize, sharpness, solarize,
    solarize_add,
};
pub use geometry::{hflip, rotate, shear_x, shear_y, translate_x, translate_y};
