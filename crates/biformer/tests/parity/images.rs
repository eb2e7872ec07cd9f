//! Family `img_*`, recorded from Pillow: the evaluation transform, the resize kernels and the
//! RandAugment operations; `aug_level_to_arg`, recorded from timm: their arguments. Sizes and
//! parameters are read from each file, never assumed, and a tensor that no rule covers fails the test.
//!
//! Bound: one level of 255 in at most a twentieth of the values. The arithmetic is Pillow's, so that
//! nothing differs with Pillow 13; a sine or cosine of another library may move a truncated value,
//! and an older Pillow resizes tall pictures in the other order.

use std::path::Path;

use biformer::data::pil_ops::*;
use biformer::data::{EvalTransform, Filter, Normalize, RandAugment, RgbImage, decode, resize};
use serde_json::Value;

use super::fixtures::{Fixture, for_each_file};

#[test]
fn eval_transform() {
    for_each_file("img_*_eval", &["safetensors"], compare_eval);
}

#[test]
fn resample() {
    for_each_file("img_resample", &["safetensors"], |path| Ok(compare_resample(path)));
}

#[test]
fn ops() {
    for_each_file("img_ops", &["safetensors"], |path| Ok(compare_ops(path)));
}

#[test]
fn rand_augment() {
    for_each_file("aug_level_to_arg", &["json"], |path| Ok(compare_arguments(path)));
}

/// `img_<name>_eval<N>.safetensors` with `img_<name>.png` beside it; gives the number of comparisons.
fn compare_eval(path: &Path) -> Result<usize, String> {
    let fixture = Fixture::read(path);
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let picture = stem.rsplit_once("_eval").expect("img_<name>_eval<N>").0;
    let source = path.with_file_name(format!("{picture}.png"));
    if !source.exists() {
        return Err(format!("{} is missing", source.display()));
    }
    let source = decode(&source).unwrap();

    let steps = fixture.meta["steps"].as_str().expect("meta.steps");
    assert!(steps.contains("PIL bicubic, antialias"), "unknown resize: {steps}");
    assert!(steps.contains("normalise(ImageNet)"), "unknown normalisation: {steps}");
    let short_side = numbers_after(steps, "short side=")[0];
    let img_size = numbers_after(steps, "CenterCrop(")[0];
    // Half a pixel more, so that flooring img_size / crop_pct gives the short side whatever it is.
    let crop_pct = img_size / (short_side + 0.5);
    let transform = EvalTransform { crop_pct, ..EvalTransform::new(img_size as usize) };
    let (levels, values) = (transform.apply_u8(&source), transform.apply(&source));

    // One level, normalised: 1/255 over the smallest standard deviation.
    let one_level = 1.0 / 255.0 / Normalize::IMAGENET.std[1] + 1e-6;
    let side = img_size as usize;
    for (name, (shape, expected)) in &fixture.bytes {
        assert_eq!(name, "eval_u8_hwc", "{path:?}: no rule for tensor `{name}`");
        assert_eq!(shape.as_slice(), [side, side, 3], "{path:?} {name}");
        assert_levels(&levels, expected, &format!("{path:?} {name}"));
    }
    for (name, tensor) in &fixture.floats {
        if let Some(range) = name.strip_prefix("eval_norm_chw_rows_") {
            let (first, last) = range.split_once('_').expect("rows_<first>_<last>");
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            assert_eq!(tensor.shape, [3, last - first, side], "{path:?} {name}");
            let rows = (0..3).flat_map(|channel| {
                &values[(channel * side + first) * side..(channel * side + last) * side]
            });
            for (index, (ours, expected)) in rows.zip(&tensor.data).enumerate() {
                assert!(
                    (ours - expected).abs() <= one_level,
                    "{path:?} {name}[{index}]: got {ours}, expected {expected}"
                );
            }
        } else if name == "norm_mean_std" {
            let count = values.len() as f64;
            let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
            let variance =
                values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>()
                    / (count - 1.0);
            // The rare differences of one level have either sign: they cancel in the mean.
            for (ours, expected) in [mean, variance.sqrt()].into_iter().zip(&tensor.data) {
                assert!(
                    (ours - f64::from(*expected)).abs() < 5e-4,
                    "{path:?} {name}: got {ours}, expected {expected}"
                );
            }
        } else {
            panic!("{path:?}: no rule for tensor `{name}`");
        }
    }
    Ok(fixture.bytes.len() + fixture.floats.len())
}

/// `src` resized: `<filter>_<W>x<H>`, or `<filter>_box_…` with the box of `meta.note`.
fn compare_resample(path: &Path) -> usize {
    let mut fixture = Fixture::read(path);
    let source = picture(&fixture.bytes.remove("src").expect("src"));
    for (name, (shape, expected)) in &fixture.bytes {
        let (filter, rest) = name.split_once('_').expect("<filter>_<size>");
        let filter =
            filter_named(filter).unwrap_or_else(|| panic!("{path:?}: no rule for tensor `{name}`"));
        let (height, width) = (shape[0] as u32, shape[1] as u32);
        let crop_box = if rest.starts_with("box") {
            let note = fixture.meta["note"].as_str().expect("meta.note");
            let [left, top, right, bottom] = numbers_after(note, "box=(")[..4] else {
                panic!("a box in: {note}")
            };
            Some((left, top, right, bottom))
        } else {
            assert_eq!(rest, format!("{width}x{height}"), "{path:?}: no rule for tensor `{name}`");
            None
        };
        let ours = resize(&source, width, height, filter, crop_box);
        assert_levels(&ours, expected, &format!("{path:?} {name}"));
    }
    fixture.bytes.len()
}

/// `src` after one operation each: `<operation>[_<parameter>][_<filter>]`, a parameter 1.6 written `1_6`.
fn compare_ops(path: &Path) -> usize {
    let mut fixture = Fixture::read(path);
    let source = picture(&fixture.bytes.remove("src").expect("src"));
    let note = fixture.meta["note"].as_str().expect("meta.note");
    let [red, green, blue] = numbers_after(note, "fill (")[..3] else {
        panic!("a colour in: {note}")
    };
    let fill = [red as u8, green as u8, blue as u8].into();

    for (name, (_, expected)) in &fixture.bytes {
        let is_number = |word: &&str| {
            word.trim_start_matches(['-', 'm']).starts_with(|c: char| c.is_ascii_digit())
        };
        let words: Vec<&str> = name.split('_').collect();
        let operation: String = words
            .iter()
            .take_while(|word| !is_number(word) && filter_named(word).is_none())
            .copied()
            .collect();
        let digits: Vec<&str> = words.iter().copied().filter(|word| is_number(word)).collect();
        let filter = words.iter().find_map(|word| filter_named(word)).unwrap_or(Filter::Bilinear);
        let parameter = || {
            let digits = digits.join(".").replace('m', "-");
            digits
                .parse::<f64>()
                .unwrap_or_else(|_| panic!("{path:?}: no parameter in tensor `{name}`"))
        };
        let image = &source;
        let ours = match operation.as_str() {
            "autocontrast" => autocontrast(image),
            "equalize" => equalize(image),
            "invert" => invert(image),
            "hflip" => hflip(image),
            "posterize" => posterize(image, parameter() as u32),
            "solarize" => solarize(image, parameter() as u32),
            "solarizeadd" => solarize_add(image, parameter() as u8),
            "brightness" => brightness(image, parameter() as f32),
            "color" => color(image, parameter() as f32),
            "contrast" => contrast(image, parameter() as f32),
            "sharpness" => sharpness(image, parameter() as f32),
            "rotate" => rotate(image, parameter(), filter, fill),
            "shearx" => shear_x(image, parameter(), filter, fill),
            "sheary" => shear_y(image, parameter(), filter, fill),
            "translatex" => translate_x(image, parameter(), filter, fill),
            "translatey" => translate_y(image, parameter(), filter, fill),
            _ => panic!("{path:?}: no rule for tensor `{name}`"),
        };
        assert_levels(&ours, expected, &format!("{path:?} {name}"));
    }
    fixture.bytes.len()
}

/// The operations in timm's order, and the arguments of each at some magnitudes, in either direction.
///
/// Both sides compute the same few steps in float64, so that the numbers are equal.
fn compare_arguments(path: &Path) -> usize {
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let names: Vec<&str> =
        file["order"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let ops = RandAugment::INCREASING_OPS;
    assert_eq!(ops.map(|op| format!("{op:?}")).as_slice(), names);
    let mut comparisons = 0;
    for (op, name) in ops.into_iter().zip(names) {
        for case in file["levels"][name].as_array().unwrap() {
            let magnitude = case["level"].as_f64().unwrap();
            let arguments = case["args"].as_array().unwrap().iter().map(|arguments| {
                let arguments = arguments.as_array().unwrap();
                assert!(arguments.len() <= 1, "{name}: one argument at most");
                arguments.first().map(|argument| argument.as_f64().unwrap())
            });
            let expected: Vec<Option<f64>> = arguments.collect();
            let mut ours = [true, false].map(|negate| op.argument(magnitude, negate)).to_vec();
            ours.dedup();
            assert_eq!(ours, expected, "{path:?} {name} at {magnitude}");
            comparisons += 1;
        }
    }
    comparisons
}

fn picture((shape, levels): &(Vec<usize>, Vec<u8>)) -> RgbImage {
    assert_eq!(shape[2], 3, "channels of a picture");
    RgbImage::from_raw(shape[1] as u32, shape[0] as u32, levels.clone()).unwrap()
}

fn assert_levels(ours: &[u8], expected: &[u8], what: &str) {
    assert_eq!(ours.len(), expected.len(), "{what}: number of levels");
    let differences = || ours.iter().zip(expected).map(|(ours, other)| ours.abs_diff(*other));
    let unequal = differences().filter(|&difference| difference > 0).count();
    assert!(differences().max() <= Some(1), "{what}: off by {:?} levels", differences().max());
    // Without this a picture that is one level too dark everywhere would pass.
    assert!(unequal * 20 <= ours.len(), "{what}: {unequal} of {} levels differ", ours.len());
}

fn filter_named(name: &str) -> Option<Filter> {
    match name {
        "bilinear" => Some(Filter::Bilinear),
        "bicubic" => Some(Filter::Bicubic),
        _ => None,
    }
}

/// The comma-separated numbers that follow `mark` in `text`.
fn numbers_after(text: &str, mark: &str) -> Vec<f64> {
    let (_, rest) = text.split_once(mark).unwrap_or_else(|| panic!("`{mark}` in: {text}"));
    let end = rest.find(|c: char| !c.is_ascii_digit() && !" ,.-".contains(c)).unwrap_or(rest.len());
    rest[..end].split(',').map_while(|number| number.trim().parse().ok()).collect()
}
