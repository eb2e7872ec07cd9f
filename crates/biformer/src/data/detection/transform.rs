//! What training does to a picture and what is marked in it: the pipeline of MMDetection's configurations.

use image::imageops::flip_horizontal_in_place;
use rand::{Rng, RngExt};

use super::super::RgbImage;
use super::super::segmentation::{Window, resize_nearest};
use super::folder::AnnotatedPicture;
use super::resize_pad::{PreparedPicture, ResizePad};
use super::rle::{Bitmap, Rle};

/// Resized with its ratio kept, perhaps mirrored, normalised and padded; boxes and masks follow.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectionTransform {
    /// Sizes to fit, of which one is drawn: several are multi-scale training.
    pub img_scales: Vec<[u32; 2]>,
    /// Probability of a mirror image.
    pub hflip: f64,
    /// Sides are padded on the right and below to multiples of this.
    pub size_divisor: u32,
    /// Whether masks are made.
    pub with_masks: bool,
}

/// What becomes of a picture and what is marked in it.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectionSample {
    /// The picture.
    pub picture: PreparedPicture,
    /// Left, top, right and bottom of each thing to learn, in pixels of `picture`.
    pub boxes: Vec<[f32; 4]>,
    /// Their classes.
    pub labels: Vec<usize>,
    /// Their masks, each of the size of `picture`; none if they are not asked for.
    pub masks: Vec<Rle>,
    /// Boxes of crowds, in which nothing is learnt.
    pub ignored: Vec<[f32; 4]>,
    /// Drawn with the rest, for what the model draws of this picture.
    pub seed: u64,
}

impl DetectionTransform {
    /// As the official models are trained, but for the size: `[1333, 800]` there.
    pub fn new(img_scale: [u32; 2]) -> Self {
        Self { img_scales: vec![img_scale], hflip: 0.5, size_divisor: 32, with_masks: false }
    }

    /// Multi-scale training: the shorter side is one of 480 to 800 by steps of 32, the longer one within
    /// 1333.
    pub fn multi_scale() -> Self {
        let img_scales = (480..=800).step_by(32).map(|short| [1333, short]).collect();
        Self { img_scales, ..Self::new([1333, 800]) }
    }

    /// A picture and what is marked in it to what the model learns from. Boxes without area, with sides
    /// below one pixel, or outside of the picture are left out; so are things whose mask, if it is asked for,
    /// has no pixel.
    ///
    /// # Shapes
    /// - image: `[height, width, 3]`
    ///
    /// # Panics
    /// If there is no scale, or the picture has another size than its annotations are for.
    pub fn apply(
        &self,
        annotated: &AnnotatedPicture,
        image: &RgbImage,
        rng: &mut impl Rng,
    ) -> DetectionSample {
        let [height, width] = annotated.size;
        assert_eq!(image.dimensions(), (width, height), "expected the size of the annotations");
        let img_scale = self.img_scales[rng.random_range(0..self.img_scales.len())];
        let resize = ResizePad { size_divisor: self.size_divisor, ..ResizePad::new(img_scale) };
        let picture = resize.apply(image, rng.random_bool(self.hflip));

        let mut sample = DetectionSample {
            boxes: Vec::new(),
            labels: Vec::new(),
            masks: Vec::new(),
            ignored: Vec::new(),
            seed: rng.random(),
            picture,
        };
        for instance in annotated.instances.iter().filter(|thing| thing.meets(annotated.size)) {
            let place = sample.picture.place(instance.xyxy());
            if instance.is_crowd {
                sample.ignored.push(place);
                continue;
            }
            if self.with_masks {
                let mask = show_mask(&instance.mask(annotated.size), &sample.picture);
                if mask.area() == 0 {
                    continue;
                }
                sample.masks.push(mask);
            }
            sample.boxes.push(place);
            sample.labels.push(instance.label);
        }
        sample
    }
}

/// A mask of the file as it is in the prepared picture.
fn show_mask(mask: &Rle, picture: &PreparedPicture) -> Rle {
    let [height, width] = picture.size.map(|side| side as u32);
    let mut bitmap: Bitmap =
        resize_nearest(&mask.decode(), (width, height), Window::whole((width, height)));
    if picture.flipped {
        flip_horizontal_in_place(&mut bitmap);
    }
    Rle::encode(&bitmap)
}
