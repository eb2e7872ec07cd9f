//! Data sets: layouts, numbers in label files, and what is wrong with them.

use std::path::Path;

use biformer::data::Example;
use biformer::data::segmentation::{
    SegmentationFolder, SegmentationSet, class_areas, read_label_values, write_seg_map,
};
use png::{BitDepth, ColorType};
use tempfile::tempdir;

use super::files::{DEFINITION, write_image, write_labels, write_png, write_text};

fn open(root: &Path, named: Option<&str>, split: &str) -> Result<SegmentationFolder, String> {
    let set = SegmentationSet::find(root, named);
    set.and_then(|set| SegmentationFolder::open(root, set, split)).map_err(|e| e.to_string())
}

/// The labels of all pictures.
fn labels(folder: &SegmentationFolder) -> Vec<Vec<u8>> {
    folder.samples.iter().map(|sample| sample.decode().unwrap().1.into_raw()).collect()
}

#[test]
fn ade20k_begins_at_one() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    for (name, values) in [("a", [0, 1, 150, 255]), ("b", [2, 3, 4, 5])] {
        write_image(&root.join(format!("images/validation/{name}.jpg")), [2, 2]);
        write_labels(&root.join(format!("annotations/validation/{name}.png")), [2, 2], &values);
    }
    let set = open(root, Some("ade20k"), "val").unwrap();
    assert_eq!(set.set.classes.len(), 150);
    assert_eq!(labels(&set), [[255, 0, 149, 255], [1, 2, 3, 4]]);
    let missing = open(root, Some("ade20k"), "train").unwrap_err();
    assert!(missing.contains("images/training") && missing.contains("no such folder"), "{missing}");
}

#[test]
fn camvid_ignores_eleven() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    write_image(&root.join("images/test/a.jpg"), [3, 1]);
    write_labels(&root.join("labels/test/a.png"), [3, 1], &[0, 10, 11]);
    let set = open(root, Some("camvid"), "test").unwrap();
    assert_eq!(labels(&set), [[0, 10, 255]]);
    assert_eq!(set.count_pixels().unwrap(), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn cityscapes_has_suffixes_towns_and_numbers_of_its_own() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    let definition = r#"
        name = "towns"
        classes = ["road", "car"]
        label_ids = [7, 26]
        ignore = [0, 1, 255]
        image_suffix = "_leftImg8bit.png"
        label_suffix = "_gtFine_labelIds.png"
        [splits.val]
        images = "leftImg8bit/val"
        labels = "gtFine/val"
    "#;
    write_text(&root.join("dataset.toml"), definition);
    for (town, values) in [("ulm", [7, 26]), ("aachen", [0, 26])] {
        write_image(&root.join(format!("leftImg8bit/val/{town}/{town}_0_leftImg8bit.png")), [2, 1]);
        let stem = root.join(format!("gtFine/val/{town}/{town}_0"));
        let name = |end: &str| stem.with_file_name(format!("{town}_0_gtFine_{end}.png"));
        write_labels(&name("labelIds"), [2, 1], &values);
        write_png(&name("color"), [2, 1], ColorType::Rgb, BitDepth::Eight, &[9; 6]);
    }
    assert_eq!(labels(&open(root, None, "val").unwrap()), [[255, 1], [0, 1]]); // aachen, ulm
}

#[test]
fn voc_has_lists_and_indices_in_palettes() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    let definition = r#"
        name = "voc"
        classes = ["background", "aeroplane", "bicycle"]
        [splits.train]
        images = "JPEGImages"
        labels = "SegmentationClass"
        list = "ImageSets/Segmentation/train.txt"
    "#;
    write_text(&root.join("dataset.toml"), definition);
    write_text(&root.join("ImageSets/Segmentation/train.txt"), "b\n\na\n");
    for (name, values) in [("a", [0, 1, 2]), ("b", [2, 255, 0]), ("c", [9, 9, 9])] {
        write_image(&root.join(format!("JPEGImages/{name}.jpg")), [3, 1]);
        let path = root.join(format!("SegmentationClass/{name}.png"));
        write_png(&path, [3, 1], ColorType::Indexed, BitDepth::Eight, &values);
    }
    assert_eq!(labels(&open(root, None, "train").unwrap()), [[2, 255, 0], [0, 1, 2]]);

    write_text(&root.join("ImageSets/Segmentation/train.txt"), "a\nz\n");
    let error = open(root, None, "train").unwrap_err();
    assert!(error.contains("line 2") && error.contains("z.jpg"), "{error}");
}

#[test]
fn indices_of_few_bits_are_not_scaled() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("labels.png");
    for color in [ColorType::Grayscale, ColorType::Indexed] {
        for (depth, rows, expected) in [
            (BitDepth::One, [0b1010_0000, 0b0100_0000], [1, 0, 1, 0, 1, 0]),
            (BitDepth::Two, [0b1101_1000, 0b0010_1100], [3, 1, 2, 0, 2, 3]),
        ] {
            write_png(&path, [3, 2], color, depth, &rows);
            assert_eq!(read_label_values(&path).unwrap().into_raw(), expected);
        }
        write_png(&path, [3, 1], color, BitDepth::Four, &[0xF2, 0x70]);
        assert_eq!(read_label_values(&path).unwrap().into_raw(), [15, 2, 7]);
    }
}

#[test]
fn written_maps_come_back_with_indices_and_show_colors() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("map.png");
    let map = image::GrayImage::from_raw(2, 2, vec![0, 1, 2, 255]).unwrap();
    write_seg_map(&path, &map, &[[10, 20, 30], [40, 50, 60], [70, 80, 90]]).unwrap();
    assert_eq!(read_label_values(&path).unwrap(), map);
    let colors = biformer::data::decode(&path).unwrap();
    assert_eq!(colors.get_pixel(1, 0).0, [40, 50, 60]);
    assert_eq!(colors.get_pixel(1, 1).0, [255; 3]);
    assert_eq!(class_areas(&map, 3), [0.25; 3]);
}

#[test]
fn what_is_wrong_with_a_label_file_is_said() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    write_text(&root.join("dataset.toml"), DEFINITION);
    write_image(&root.join("images/a.png"), [4, 2]);
    let path = root.join("labels/a.png");
    let check = |expected: &[&str]| {
        let folder = open(root, None, "train").unwrap();
        let read = folder.samples[0].decode().unwrap_err().to_string();
        assert_eq!(folder.count_pixels().unwrap_err().to_string(), read);
        assert!(read.contains("labels/a.png"), "{read}");
        assert!(expected.iter().all(|part| read.contains(part)), "{read}");
    };
    write_labels(&path, [4, 2], &[0, 0, 0, 0, 0, 0, 3, 9]);
    check(&["column 2, row 1 is 3", "none of the 3 classes", "`ignore`"]);
    write_labels(&path, [2, 4], &[0; 8]);
    check(&["2x4 labels", "images/a.png", "4x2 pixels"]);
    write_png(&path, [4, 2], ColorType::Rgb, BitDepth::Eight, &[0; 24]);
    check(&["holds colours, not class indices"]);
    write_png(&path, [4, 2], ColorType::GrayscaleAlpha, BitDepth::Eight, &[0; 16]);
    check(&["transparency, not class indices"]);
    write_png(&path, [4, 2], ColorType::Grayscale, BitDepth::Sixteen, &[0; 16]);
    check(&["16 bits"]);
    write_labels(&path, [4, 2], &[0; 8]);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    check(&["cannot be decoded as Png"]);
    write_image(&root.join("labels/a.jpg"), [4, 2]);
    std::fs::rename(root.join("labels/a.jpg"), &path).unwrap();
    check(&["is no PNG"]);
    std::fs::write(&path, huge_header()).unwrap();
    check(&["60000x60000", "limit"]);
}

/// A PNG that claims 3.6 billion pixels.
fn huge_header() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 60_000, 60_000);
    encoder.set_color(ColorType::Grayscale);
    drop(encoder.write_header().unwrap());
    bytes
}

#[test]
fn what_is_wrong_with_a_folder_is_said() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    let error = |split| open(root, None, split).unwrap_err();
    let says = |error: String, part: &str| assert!(error.contains(part), "{error}");
    says(error("train"), "has no `dataset.toml`");
    says(open(root, Some("ade"), "train").unwrap_err(), "`ade20k`, `camvid`");
    says(open(&root.join("none"), None, "train").unwrap_err(), "does not exist");

    write_text(&root.join("dataset.toml"), DEFINITION);
    says(error("val"), "has no part `val`, only `train`");
    says(error("train"), "no such folder");
    std::fs::create_dir_all(root.join("images")).unwrap();
    std::fs::create_dir_all(root.join("labels")).unwrap();
    says(error("train"), "holds no picture");
    write_image(&root.join("images/b.png"), [2, 2]);
    says(error("train"), "expected `b.png` below");
    write_labels(&root.join("labels/b.png"), [2, 2], &[0; 4]);
    assert_eq!(open(root, None, "train").unwrap().samples.len(), 1);
    write_labels(&root.join("labels/c.png"), [2, 2], &[0; 4]);
    says(error("train"), "1 label files have no picture");
}

#[test]
fn what_is_wrong_with_a_definition_is_said() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("dataset.toml");
    for (line, expected) in [
        ("colour = 1", "unknown field `colour`"),
        ("palette = [[1, 2, 3]]", "`palette`: expected one for each of 3 classes, found 1"),
        ("palette = [[1, 2, 300]]", "300"),
        ("ignore = [2]", "2 is the number of the class `other`"),
        ("label_ids = [4, 5, 4]", "4 stands for two classes"),
        ("label_ids = [1, 2, 3]\nreduce_zero_label = true", "exclude each other"),
    ] {
        write_text(&path, &format!("{line}\n{DEFINITION}"));
        let error = SegmentationSet::read(&path).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("dataset.toml"), "{error}");
    }
    write_text(&path, &DEFINITION.replace(r#", "thing", "other""#, ""));
    let error = SegmentationSet::read(&path).unwrap_err().to_string();
    assert!(error.contains("expected 2 to 255, found 1"), "{error}");
}

/// Three pictures of the real set, if they are there.
#[test]
fn ade20k_as_it_is_published() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ade20k_sample");
    if !root.is_dir() {
        eprintln!("skipped: {} is absent", root.display());
        return;
    }
    let mut set = SegmentationSet::built_in("ade20k").unwrap();
    let val = set.splits.get_mut("val").unwrap();
    (val.images, val.labels) = ("images".to_owned(), "annotations".to_owned());
    let folder = SegmentationFolder::open(&root, set, "val").unwrap();
    assert_eq!(folder.samples.len(), 3);
    let counts = folder.count_pixels().unwrap();
    assert!(counts.iter().filter(|&&count| count > 0).count() > 5);
}
