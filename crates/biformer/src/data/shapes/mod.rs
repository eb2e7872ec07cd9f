//! A labelled picture set that needs no file: eight shapes on textured grounds.
//!
//! The label is in the outline and nowhere else. Colours, textures, position, size, rotation,
//! clutter and the bar in front are drawn before anything asks for the class (`scene.rs`),
//! so they follow one distribution for all classes and a colour histogram learns nothing from
//! them. [`render_objects`] puts several shapes in a picture, for detection.
//!
//! ```
//! use biformer::data::shapes::{CLASSES, ShapesConfig, Split, render};
//!
//! let config = ShapesConfig { img_size: 128, ..ShapesConfig::default() };
//! let star = CLASSES.iter().position(|name| *name == "star").unwrap();
//! assert_eq!(render(&config, Split::Val, star, 0).dimensions(), (128, 128));
//! ```

mod dataset;
mod objects;
mod outline;
mod scene;
mod surface;

pub use dataset::{
    ShapesConfig, Split, render, render_seg_map, render_split, write_image_folder,
    write_segmentation_folder,
};
pub use objects::{ObjectsConfig, render_objects, write_detection_folder};
pub use outline::CLASSES;
