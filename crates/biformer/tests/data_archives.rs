//! Archives read in place: the same pictures in the same order from folder, tar, zip and shards.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use biformer::data::{
    Batch, DataLoader, ImageFolder, RgbImage, Split, TrainTransform, split_folder,
};
use image::ImageFormat;
use tempfile::tempdir;
use zip::CompressionMethod::{Deflated, Stored};
use zip::write::{SimpleFileOptions, ZipWriter};

#[test]
fn folder_tar_and_zip_give_the_same_batches() {
    let files = data_set("");
    let root = tempdir().unwrap();
    write_folder(&root.path().join("folder"), &files);
    // Another order within the archives, and another folder around it.
    let reversed: Vec<_> = files.iter().rev().cloned().collect();
    let nested = data_set("set/");
    for (name, bytes) in [
        ("a.tar", tar(&files)),
        ("b.tar", tar(&nested)),
        ("a.zip", zip(&reversed, Stored)),
        ("b.zip", zip(&nested, Deflated)),
    ] {
        fs::write(root.path().join(name), bytes).unwrap();
    }
    let (classes, expected) = load(&root.path().join("folder"), Split::Train);
    assert_eq!(classes, ["ant", "bee", "cat"]);
    for name in ["a.tar", "b.tar", "a.zip", "b.zip"] {
        let (found_classes, found) = load(&root.path().join(name), Split::Train);
        assert_eq!(found_classes, classes, "{name}");
        assert_same(&found, &expected, name);
        let val = split_folder(root.path().join(name), Split::Val).unwrap();
        let val = ImageFolder::open_with_classes(val, &classes).unwrap();
        assert_eq!(val.samples.iter().map(|(_, class)| *class).collect::<Vec<_>>(), [0, 2]);
    }
}

#[test]
fn each_split_may_be_an_archive_of_its_own() {
    let files = data_set("");
    let part = |split: &str, keep: &str| -> Vec<(String, Vec<u8>)> {
        let files = files.iter().filter(|(name, _)| name.starts_with(split));
        files.map(|(name, bytes)| (name.replacen(split, keep, 1), bytes.clone())).collect()
    };
    let root = tempdir().unwrap();
    fs::write(root.path().join("train.tar"), tar(&part("train/", ""))).unwrap();
    fs::write(root.path().join("val.zip"), zip(&part("val/", "val/"), Deflated)).unwrap();
    write_folder(&root.path().join("folder"), &files);
    let (classes, expected) = load(&root.path().join("folder"), Split::Train);
    assert_same(&load(root.path(), Split::Train).1, &expected, "train.tar");
    let val = split_folder(root.path(), Split::Val).unwrap();
    assert_eq!(ImageFolder::open_with_classes(val, &classes).unwrap().samples.len(), 2);
}

#[test]
fn shards_give_the_pictures_of_their_class_files() {
    let shard = |from: u8, count: u8| -> Vec<u8> {
        let members = (from..from + count).flat_map(|level| {
            let class = format!("{}\n", level % 3);
            let key = format!("{level:04}");
            [
                (format!("{key}.cls"), class.into_bytes()),
                (format!("{key}.json"), b"{}".to_vec()),
                (format!("{key}.png"), png(level)),
            ]
        });
        tar(&members.collect::<Vec<_>>())
    };
    let expected: Vec<usize> = (0..9).map(|level| level % 3).collect();
    let labels = |folder: &ImageFolder| -> Vec<usize> {
        folder.samples.iter().map(|(_, class)| *class).collect()
    };

    let by_name = tempdir().unwrap();
    let in_folder = tempdir().unwrap();
    fs::create_dir(in_folder.path().join("train")).unwrap();
    for (number, from) in [0, 4].into_iter().enumerate() {
        let bytes = shard(from, if from == 0 { 4 } else { 5 });
        fs::write(by_name.path().join(format!("train-{number:06}.tar")), &bytes).unwrap();
        fs::write(in_folder.path().join(format!("train/{number}.tar")), &bytes).unwrap();
    }
    for root in [by_name.path(), in_folder.path()] {
        let folder = ImageFolder::open(split_folder(root, Split::Train).unwrap()).unwrap();
        assert_eq!(folder.classes, ["class_0", "class_1", "class_2"]);
        assert_eq!(labels(&folder), expected);
        for ((picture, _), level) in folder.samples.iter().zip(0..) {
            assert_eq!(picture.decode().unwrap(), flat(level));
        }
    }
    let root = by_name.path();
    let train = split_folder(root, Split::Train).unwrap();
    fs::write(root.join("classes.txt"), "cat\nant\nbee\n").unwrap();
    assert_eq!(ImageFolder::open(&train).unwrap().classes, ["cat", "ant", "bee"]);
    let known = ["ant", "bee", "cat"].map(String::from);
    let folder = ImageFolder::open_with_classes(&train, &known).unwrap();
    assert_eq!(labels(&folder)[..3], [2, 0, 1], "by name, not by number");
    assert_says(&ImageFolder::open_with_classes(&train, &known[..2]), &["0000.png", "`cat`"]);
    fs::write(root.join("classes.txt"), "cat\nant\n").unwrap();
    assert_says(&ImageFolder::open(&train), &["0002.png", "class 2", "2 classes", "classes.txt"]);
}

#[test]
fn shards_that_lack_something_are_named() {
    let root = tempdir().unwrap();
    let path = root.path().join("train-0.tar");
    let open = |members: &[(&str, &[u8])]| {
        let members: Vec<_> =
            members.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect();
        fs::write(&path, tar(&members)).unwrap();
        ImageFolder::open(split_folder(root.path(), Split::Train).unwrap())
    };
    let picture = png(1);
    let alone = open(&[("a.cls", b"0"), ("a.png", &picture), ("b.png", &picture)]);
    assert_says(&alone, &["train-0.tar/b.png", "no `b.cls` beside it"]);
    let word = open(&[("a.cls", b"cat"), ("a.png", &picture)]);
    assert_says(&word, &["train-0.tar/a.cls", "the number of a class", "\"cat\""]);
    let negative = open(&[("a.cls", b"-1"), ("a.png", &picture)]);
    assert_says(&negative, &["a.cls", "\"-1\""]);
    assert_says(&open(&[("a.cls", b"0")]), &["train-0.tar", "no shard holds a picture"]);
    assert_says(&open(&[("a.cls", b"0"), ("a.png", &picture)]), &["only one class, `class_0`"]);
}

#[test]
fn damaged_archives_are_errors_that_name_the_cure() {
    let root = tempdir().unwrap();
    let files = data_set("");
    let list = |name: &str, bytes: &[u8]| {
        let path = root.path().join(name);
        fs::write(&path, bytes).unwrap();
        split_folder(&path, Split::Train).and_then(ImageFolder::open)
    };
    for length in (0..tar(&files).len()).step_by(97) {
        let whole = tar(&files);
        // Of the two empty blocks at the end, one is enough.
        let result = list("cut.tar", &whole[..length]);
        assert!(result.is_err() || length >= whole.len() - 512, "{length} of {}", whole.len());
    }
    let bytes = tar(&files);
    assert_says(
        &list("cut.tar", &bytes[..bytes.len() - 1_024]),
        &["cut.tar", "end marker", "copy"],
    );
    assert_says(&list("cut.tar", &bytes[..600]), &["cut.tar", "copy or download it again"]);
    assert_says(&list("noise.tar", &[7; 2_048]), &["noise.tar", "damaged tar"]);
    let bytes = zip(&files, Deflated);
    assert_says(&list("cut.zip", &bytes[..bytes.len() / 2]), &["cut.zip", "damaged zip"]);
    assert_says(&list("set.tar.gz", b"\x1F\x8B\x08"), &["set.tar.gz", "gunzip -k"]);
    let elsewhere: Vec<_> = vec![("cat/1.png".to_owned(), png(1))];
    assert_says(&list("other.tar", &tar(&elsewhere)), &["no folder for the split `train`"]);
    assert_says(&ImageFolder::open(root.path().join("other.tar")), &["only one class, `cat`"]);

    let hollow: Vec<_> = [("train/a/1.png", png(1)), ("train/b/note.txt", vec![1])]
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .to_vec();
    for (name, bytes) in [("hollow.tar", tar(&hollow)), ("hollow.zip", zip(&hollow, Stored))] {
        assert_says(&list(name, &bytes), &["class folder `b` holds no"]);
    }
}

#[test]
fn what_cannot_be_read_by_its_place_is_refused() {
    let root = tempdir().unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, "train/a/1.png", &png(1));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    builder.append_link(&mut header, "train/b/1.png", "train/a/1.png").unwrap();
    let path = root.path().join("links.tar");
    fs::write(&path, builder.into_inner().unwrap()).unwrap();
    let result = split_folder(&path, Split::Train);
    assert_says(&result, &["links.tar", "`train/b/1.png`", "--hard-dereference"]);

    // The method of the first member, in its central directory, becomes LZMA.
    let mut bytes = zip(&data_set(""), Stored);
    let central = bytes.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    bytes[central + 10] = 14;
    let path = root.path().join("lzma.zip");
    fs::write(&path, bytes).unwrap();
    let result = split_folder(&path, Split::Train);
    assert_says(&result, &["lzma.zip", "train/ant/0.png", "not supported", "zip -0 -r"]);
}

#[test]
fn a_damaged_member_is_left_out_and_named() {
    let root = tempdir().unwrap();
    for (name, method) in [("stored.zip", Stored), ("deflated.zip", Deflated)] {
        let mut bytes = zip(&data_set(""), method);
        bytes[80] ^= 0x40; // within the first picture
        let path = root.path().join(name);
        fs::write(&path, bytes).unwrap();
        let (_, batches) = load(&path, Split::Train);
        let (picture, reason) = &batches[0].skipped[0];
        assert!(picture.ends_with("train/ant/0.png"), "{picture:?}");
        assert!(reason.contains(name) && reason.contains("copy or download"), "{reason}");
        assert_eq!(batches[0].skipped.len(), 1);
    }
}

/// Three classes in training, two in validation, and what is no picture.
fn data_set(around: &str) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for (number, class) in ["ant", "bee", "cat"].into_iter().enumerate() {
        for level in 0..4 {
            let level = level + 10 * number as u8;
            files.push((format!("{around}train/{class}/{level}.png"), png(level)));
        }
    }
    files.push((format!("{around}train/bee/deep/er.png"), png(99)));
    files.push((format!("{around}train/bee/._0.png"), b"hidden".to_vec()));
    files.push((format!("{around}val/ant/1.png"), png(1)));
    files.push((format!("{around}val/cat/1.png"), png(1)));
    files.push((format!("{around}README.md"), b"read me".to_vec()));
    files
}

fn load(data: &Path, split: Split) -> (Vec<String>, Vec<Batch>) {
    let folder = ImageFolder::open(split_folder(data, split).unwrap()).unwrap();
    let transform = TrainTransform::new(8);
    let loader = DataLoader { seed: 3, ..DataLoader::new(folder.samples, 64) };
    let apply = move |_: &_, image: &_, rng: &mut _| Ok(transform.apply(image, rng).into());
    let batches = loader.epoch(0, 0, Box::new(apply));
    (folder.classes, batches.collect())
}

fn assert_same(found: &[Batch], expected: &[Batch], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.skipped, [], "{what}");
        assert_eq!(found.labels, expected.labels, "{what}");
        assert_eq!(found.pixels, expected.pixels, "{what}");
    }
}

fn flat(level: u8) -> RgbImage {
    RgbImage::from_fn(9, 7, |x, y| [level, x as u8, y as u8].into())
}

fn png(level: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    flat(level).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn write_folder(root: &Path, files: &[(String, Vec<u8>)]) {
    for (name, bytes) in files {
        let path: PathBuf = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    files.iter().for_each(|(name, bytes)| append(&mut builder, name, bytes));
    builder.into_inner().unwrap()
}

fn append(builder: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, format!("./{name}"), bytes).unwrap();
}

fn zip(files: &[(String, Vec<u8>)], method: zip::CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(name.as_str(), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn assert_says<T: std::fmt::Debug>(result: &biformer::Result<T>, expected: &[&str]) {
    let error = result.as_ref().unwrap_err().to_string();
    for part in expected {
        assert!(error.contains(part), "got: {error}, expected: {part}");
    }
}
