//! Masks as runs, against pixels counted one by one and against pycocotools.

use biformer::data::detection::{Bitmap, Rle, rasterize};
use image::Luma;
use proptest::prelude::*;
use serde_json::json;

fn bitmap(width: u32, height: u32, bits: &[bool]) -> Bitmap {
    Bitmap::from_fn(width, height, |x, y| Luma([u8::from(bits[(y * width + x) as usize])]))
}

fn count(a: &Bitmap, b: &Bitmap, keep: impl Fn(bool, bool) -> bool) -> u64 {
    let pixels = a.as_raw().iter().zip(b.as_raw());
    pixels.filter(|(a, b)| keep(**a != 0, **b != 0)).count() as u64
}

/// Recorded from pycocotools 2.0.11: `frPyObjects([polygon], 6, 8)[0]["counts"]`.
#[test]
fn polygons_have_the_pixels_of_pycocotools() {
    let cases: [(&[f64], &str, u64); 8] = [
        (&[1.0, 1.0, 6.0, 1.0, 6.0, 4.0, 1.0, 4.0], "7330000000;", 15),
        (&[0.3, 0.7, 7.9, 2.2, 3.1, 5.9], "7242N10N1O1O10N", 18),
        // Beyond the picture on all sides.
        (&[-3.0, -2.0, 4.5, -2.5, 9.7, 3.3, 2.2, 8.8, -4.4, 4.4], "0Z11jN0", 46),
        // Crossing itself.
        (&[2.0, 0.0, 2.0, 6.0, 5.0, 0.0, 5.0, 6.0], "=480;", 8),
        (&[0.0, 0.0, 8.0, 0.0, 8.0, 6.0, 0.0, 6.0], "0`1", 48),
        // Too small, and too far to the right.
        (&[3.3, 2.1, 3.4, 2.1, 3.4, 2.2], "`1", 0),
        (&[7.9, 5.9, 7.9, 0.1, 9.0, 0.1, 9.0, 5.9], "`1", 0),
        // A star: its middle is outside.
        (&[5.5, 0.5, 6.5, 5.5, 0.5, 2.5, 7.5, 2.5, 1.5, 5.5], "?25ON0N011OO500", 9),
    ];
    for (polygon, counts, area) in cases {
        let mask = rasterize(polygon, [6, 8]);
        let expected: Rle =
            serde_json::from_value(json!({"size": [6, 8], "counts": counts})).unwrap();
        assert_eq!((&mask, mask.area()), (&expected, area), "{polygon:?}");
    }
    for polygon in
        [&[][..], &[1.0, 2.0], &[1.0, 1.0, 5.0, 5.0], &[1.0, 1.0, 5.0, 1.0, 5.0, 5.0, 3.0]]
    {
        assert_eq!(rasterize(polygon, [6, 8]), Rle::empty([6, 8]));
    }
    // Ends in reasonable time, whatever a file says.
    let far = [1e300, -1e300, -1e300, 1e300, f64::MAX, 3.0];
    assert_eq!(rasterize(&far, [6, 8]).size(), [6, 8]);
}

proptest! {
    #[test]
    fn runs_say_what_pixels_say(
        (width, height, a, b) in (1u32..9, 1u32..9).prop_flat_map(|(width, height)| {
            let bits = proptest::collection::vec(any::<bool>(), (width * height) as usize);
            (Just(width), Just(height), bits.clone(), bits)
        })
    ) {
        let [a, b] = [bitmap(width, height, &a), bitmap(width, height, &b)];
        let [rle_a, rle_b] = [&a, &b].map(Rle::encode);
        prop_assert_eq!(rle_a.decode(), a.clone());
        prop_assert_eq!(rle_a.size(), [height, width]);
        prop_assert_eq!(rle_a.area(), count(&a, &a, |a, _| a));
        let union = Rle::encode(&bitmap(width, height, &a.as_raw().iter().zip(b.as_raw())
            .map(|(a, b)| a + b > 0).collect::<Vec<_>>()));
        prop_assert_eq!(rle_a.union(&rle_b), union.clone());
        let both = count(&a, &b, |a, b| a && b) as f64;
        prop_assert_eq!(rle_a.iou(&rle_b, false), both / (union.area().max(1)) as f64);
        prop_assert_eq!(rle_a.iou(&rle_b, true), both / rle_a.area().max(1) as f64);
        let inside: Vec<_> = a.enumerate_pixels().filter(|(.., pixel)| pixel[0] != 0).collect();
        let expected = match (inside.iter().map(|p| p.0).min(), inside.iter().map(|p| p.1).min()) {
            (Some(left), Some(top)) => {
                let right = inside.iter().map(|p| p.0).max().unwrap();
                let bottom = inside.iter().map(|p| p.1).max().unwrap();
                [left, top, right - left + 1, bottom - top + 1]
            }
            _ => [0; 4],
        };
        prop_assert_eq!(rle_a.bounding_box(), expected);
        let text = serde_json::to_string(&rle_a).unwrap();
        prop_assert_eq!(serde_json::from_str::<Rle>(&text).unwrap(), rle_a);
    }

    #[test]
    fn any_text_is_a_mask_or_an_error(counts in "[0-o]{0,12}") {
        let file = json!({"size": [3, 5], "counts": counts});
        if let Ok(mask) = serde_json::from_value::<Rle>(file) {
            prop_assert_eq!(mask.counts().iter().sum::<u32>(), 15);
            prop_assert_eq!(u64::from(mask.decode().as_raw().iter().map(|&p| u32::from(p)).sum::<u32>()), mask.area());
        }
    }
}
