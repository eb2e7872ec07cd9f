//! Label maps: what is kept of logits, files, and folders of others.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use biformer::Error;
use biformer::classification::{
    CELL, ClassifierInfo, ImageClassifierConfig, annotator_columns, imagenet1k_classes,
    write_label_maps,
};
use biformer::data::{EvalTransform, LabelMap, LabelMaps, LabelMapsInfo, Picture, RgbImage};
use biformer::models::BiFormerConfig;
use burn::tensor::Device;
use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

fn names(count: usize) -> Vec<String> {
    (0..count).map(|class| format!("class {class}")).collect()
}

fn folder(classes: usize, grid: [usize; 2]) -> (TempDir, LabelMaps) {
    let folder = tempdir().expect("a temporary directory");
    let info = LabelMapsInfo { annotator: "a model".to_owned(), grid, classes: names(classes) };
    let maps = LabelMaps::create(&folder.path().join("maps"), &folder.path().join("train"), info);
    (folder, maps.expect("a new folder"))
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let sum: f64 = scores.iter().map(|score| score.exp()).sum();
    scores.iter().map(|score| score.exp() / sum).collect()
}

/// Of 8 classes 5 are kept; the softmax with 0 for the other three gives the five their probabilities.
#[test]
fn a_softmax_over_what_is_kept_gives_the_annotators_probabilities() {
    let logits = [-1.0f32, -9.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.5];
    let map = LabelMap::from_logits(&logits, [1, 1]);
    assert_eq!((map.topk(), map.classes.as_slice()), (5, [0, 2, 3, 4, 5].as_slice()));
    let mut scores = [0.0f64; 8];
    for (&class, &score) in map.classes.iter().zip(&map.scores) {
        scores[usize::from(class)] = score.into();
    }
    let expected = softmax(&logits.map(f64::from));
    for class in [0, 2, 3, 4, 5] {
        // Scores in float32 up to about 6: rounding of 5e-7.
        assert!((softmax(&scores)[class] / expected[class] - 1.0).abs() < 2e-6, "class {class}");
    }
}

/// Cell by cell, ties in the order of the classes, and no more classes than there are.
#[test]
fn cells_lie_in_rows_for_each_rank() {
    let map = LabelMap::from_logits(&[1.0, 2.0, 2.0, 5.0, 4.0, 3.0], [1, 2]);
    assert_eq!((map.topk(), map.classes), (3, vec![1, 0, 2, 1, 0, 2]));
    // Less the log of the mean of e^logit over all: the scores of a cell are log(3 p).
    let sum: f64 = softmax(&[1.0, 2.0, 2.0])[1];
    assert!((f64::from(map.scores[0]) - (3.0 * sum).ln()).abs() < 1e-6);
}

#[test]
fn what_is_written_is_read_within_float16() {
    let (folder, maps) = folder(9, [2, 3]);
    let logits: Vec<f32> = (0..9 * 6).map(|i| (i * 31 % 17) as f32 / 3.0 - 4.0).collect();
    let map = LabelMap::from_logits(&logits, [2, 3]);
    let picture = folder.path().join("train/a class/within/picture.jpg");
    maps.write(&picture, &map).expect("it can be written");
    let path = folder.path().join("maps/a class/within/picture.jpg.safetensors");
    assert_eq!(maps.path(&picture), path);
    let found = maps.read(&picture).expect("it can be read");
    assert_eq!((&found.grid, &found.classes), (&map.grid, &map.classes));
    for (found, expected) in found.scores.iter().zip(&map.scores) {
        // Half of the last of 11 bits.
        assert!((found - expected).abs() <= expected.abs() / 2048.0 + 1e-7, "{found} {expected}");
    }
    let (opened, again) = (
        LabelMaps::open(&folder.path().join("maps"), &folder.path().join("train"), &names(9)),
        LabelMaps::create(
            &folder.path().join("maps"),
            &folder.path().join("train"),
            maps.info.clone(),
        ),
    );
    assert_eq!((opened.expect("maps"), again.expect("the same maps")), (maps.clone(), maps));
}

#[test]
fn what_does_not_fit_is_named() {
    let (folder, maps) = folder(9, [2, 2]);
    let picture = folder.path().join("train/c/p.jpg");
    let error = |maps: &LabelMaps| maps.read(&picture).expect_err("no such map").to_string();
    assert!(error(&maps).contains("c/p.jpg.safetensors"), "{}", error(&maps));

    let other = LabelMap::from_logits(&[0.0; 9 * 6], [2, 3]);
    maps.write(&picture, &other).expect("it can be written");
    for words in
        ["c/p.jpg.safetensors", "expected F16 of [5, 2, 2], found F16 of [5, 2, 3]", "label-maps"]
    {
        assert!(error(&maps).contains(words), "no `{words}` in {}", error(&maps));
    }
    let class = LabelMap { classes: vec![9; 20], ..LabelMap::from_logits(&[0.0; 36], [2, 2]) };
    maps.write(&picture, &class).expect("it can be written");
    assert!(error(&maps).contains("expected classes below 9, found 9"), "{}", error(&maps));
    let score =
        LabelMap { scores: vec![f32::NAN; 20], ..LabelMap::from_logits(&[0.0; 36], [2, 2]) };
    maps.write(&picture, &score).expect("it can be written");
    assert!(error(&maps).contains("no numbers"), "{}", error(&maps));

    let (root, pictures) = (folder.path().join("maps"), folder.path().join("train"));
    let message =
        |result: Result<LabelMaps, Error>| result.expect_err("another folder").to_string();
    let found = message(LabelMaps::open(&root, &pictures, &names(8)));
    assert!(found.contains("9 classes (`class 0`") && found.contains("8 classes"), "{found}");
    let info = LabelMapsInfo { grid: [3, 3], ..maps.info.clone() };
    let found = message(LabelMaps::create(&root, &pictures, info));
    assert!(found.contains("choose another folder") && found.contains("[3, 3]"), "{found}");
    let found = message(LabelMaps::open(&pictures, &pictures, &names(8)));
    assert!(found.contains("biformer label-maps"), "{found}");
    fs::write(root.join("label_maps.json"), "{").expect("a file");
    assert!(message(LabelMaps::open(&root, &pictures, &names(9))).contains("label_maps.json"));
}

#[test]
fn columns_of_the_annotator_go_by_name_or_wordnet_id() {
    let info = |classes| ClassifierInfo {
        model: "biformer_nano".to_owned(),
        classes,
        transform: EvalTransform::new(64),
    };
    let classes =
        |classes: &[&str]| classes.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let columns = annotator_columns(&info(names(4)), &classes(&["class 3", "class 1"]));
    assert_eq!(columns.expect("known classes"), [3, 1]);
    let imagenet = info(imagenet1k_classes());
    let columns = annotator_columns(&imagenet, &classes(&["n01443537", "n01440764", "tench"]));
    assert_eq!(columns.expect("known classes"), [1, 0, 0]);
    let error =
        annotator_columns(&imagenet, &classes(&["tench", "a pencil"])).expect_err("unknown");
    assert!(error.to_string().contains("`a pencil`"), "{error}");
}

/// Each half of a picture is another picture; a cell says what that picture alone says.
#[test]
fn an_annotator_writes_a_map_of_each_picture_that_can_be_read() {
    let device = Device::default();
    let (folder, maps) = folder(3, [2, 2]);
    let model =
        ImageClassifierConfig::new(BiFormerConfig::nano()).with_num_classes(4).init(&device);
    let pictures: Vec<PathBuf> = ["a.png", "broken.png", "b.png"]
        .map(|name| folder.path().join("train/c").join(name))
        .into();
    fs::create_dir_all(folder.path().join("train/c")).expect("a folder");
    fs::write(&pictures[1], "no picture").expect("a file");
    for (picture, level) in [(&pictures[0], 200), (&pictures[2], 40)] {
        let image = RgbImage::from_fn(50, 30, |x, y| [level, (x * 5) as u8, (y * 8) as u8].into());
        image.save(picture).expect("a picture");
    }
    let mut skipped = 0;
    let listed: Vec<Picture> = pictures.iter().cloned().map(Picture::from).collect();
    let ended = write_label_maps(&model, &[3, 0, 2], &listed, &maps, 2, &device, |batch| {
        skipped += batch.skipped.len();
        ControlFlow::Continue(())
    });
    assert!(ended.expect("maps").is_continue() && skipped == 1);
    assert!(!maps.path(&pictures[1]).exists());
    let image = image_of(&pictures[0], 2 * CELL as u32);
    let [.., c5] = model.backbone.forward_stages(image);
    let (_, tokens) = model.classify_tokens(c5);
    let tokens: Vec<f32> = tokens.into_data_as::<f32>().try_into_vec().expect("float32");
    let taken: Vec<f32> = tokens.chunks(4).flat_map(|cell| [cell[3], cell[0], cell[2]]).collect();
    let expected = LabelMap::from_logits(&taken, [2, 2]);
    let found = maps.read(&pictures[0]).expect("a map");
    assert_eq!(found.classes, expected.classes);
    // Float16, and float32 sums of a batch of one.
    let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-3 * b.abs() + 1e-4;
    assert!(found.scores.iter().zip(&expected.scores).all(close), "{found:?} {expected:?}");
    assert_ne!(found, maps.read(&pictures[2]).expect("a map"));

    let stop = |_: &_| ControlFlow::Break(());
    let ended = write_label_maps(&model, &[3, 0, 2], &listed, &maps, 2, &device, stop);
    assert!(ended.expect("no error").is_break());
}

fn image_of(picture: &std::path::Path, side: u32) -> burn::tensor::Tensor<4> {
    use biformer::data::{Filter, Normalize, decode, resize};
    let image = resize(&decode(picture).expect("a picture"), side, side, Filter::Bicubic, None);
    let pixels = Normalize::IMAGENET.apply(&image);
    let data = burn::tensor::TensorData::new(pixels, [1, 3, side as usize, side as usize]);
    burn::tensor::Tensor::from_data(data, &Device::default())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })] // each writes to the disk

    /// Damaged files are errors, never panics.
    #[test]
    fn damaged_maps_are_errors(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), end in any::<prop::sample::Index>()) {
        let (folder, maps) = folder(6, [2, 2]);
        let picture = folder.path().join("train/c/p.jpg");
        maps.write(&picture, &LabelMap::from_logits(&[0.5; 24], [2, 2])).expect("it can be written");
        let path = maps.path(&picture);
        let mut bytes = fs::read(&path).expect("a file");
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(end.index(bytes.len() + 1));
        fs::write(&path, bytes).expect("a file");
        if let Ok(map) = maps.read(&picture) {
            prop_assert!(map.classes.iter().all(|&class| class < 6));
        }
    }
}
