//! ImageFolder layout: what is listed, in which order, and what the errors say.

use std::fs;
use std::path::Path;

use biformer::data::{ImageFolder, Split, split_folder};
use tempfile::{TempDir, tempdir};

#[test]
fn classes_and_pictures_are_sorted_and_nested_folders_are_read() {
    let root =
        folder_with(&["dog/b.jpg", "dog/a.PNG", "cat/deep/er/z.gif", "cat/x.webp", "ant/1.jpeg"]);
    let folder = ImageFolder::open(root.path()).unwrap();
    assert_eq!(folder.classes, ["ant", "cat", "dog"]);
    let samples: Vec<_> = folder
        .samples
        .iter()
        .map(|(picture, class)| {
            (picture.path().strip_prefix(root.path()).unwrap().to_str().unwrap(), *class)
        })
        .collect();
    assert_eq!(
        samples,
        [
            ("ant/1.jpeg", 0),
            ("cat/deep/er/z.gif", 1),
            ("cat/x.webp", 1),
            ("dog/a.PNG", 2),
            ("dog/b.jpg", 2)
        ]
    );
    assert_eq!(ImageFolder::open(root.path()).unwrap(), folder);
}

#[test]
fn hidden_files_and_other_files_are_skipped() {
    let root = folder_with(&[
        "a/1.jpg",
        "a/.2.jpg",
        "a/notes.txt",
        "b/1.jpg",
        "b/.cache/2.jpg",
        ".git/x.jpg",
        "README.md",
    ]);
    let folder = ImageFolder::open(root.path()).unwrap();
    assert_eq!(folder.classes, ["a", "b"]);
    assert_eq!(folder.samples.len(), 2);
}

#[cfg(unix)]
#[test]
fn links_are_followed_loops_end_and_broken_links_are_named() {
    use std::os::unix::fs::symlink;
    let elsewhere = folder_with(&["1.jpg", "2.jpg"]);
    let root = folder_with(&["a/1.jpg", "b/1.jpg"]);
    symlink(root.path().join("a"), root.path().join("a/loop")).unwrap();
    symlink(root.path(), root.path().join("b/up")).unwrap();
    symlink(elsewhere.path(), root.path().join("c")).unwrap();
    let folder = ImageFolder::open(root.path()).unwrap();
    assert_eq!(folder.classes, ["a", "b", "c"]);
    assert_eq!(folder.samples.iter().filter(|(_, class)| *class == 2).count(), 2);
    assert_eq!(folder.samples.iter().filter(|(_, class)| *class == 0).count(), 1);

    symlink("/nowhere.jpg", root.path().join("a/broken.jpg")).unwrap();
    assert_says(ImageFolder::open(root.path()), &["broken.jpg", "cannot find the picture"]);
}

#[test]
fn a_wrong_layout_is_told_the_right_one() {
    let root = tempdir().unwrap();
    assert_says(
        ImageFolder::open(root.path().join("gone")),
        &["gone", "does not exist", "<class>/<picture>.jpg"],
    );
    assert_says(
        ImageFolder::open(root.path()),
        &["neither class folders nor pictures", "<class>/<picture>.jpg"],
    );

    let file = root.path().join("cat.jpg");
    fs::write(&file, "").unwrap();
    assert_says(ImageFolder::open(&file), &["cat.jpg", "is a file, not a folder"]);
    assert_says(
        ImageFolder::open(root.path()),
        &["1 pictures but no class folders", "one folder per class"],
    );

    let one = folder_with(&["cat/1.jpg"]);
    assert_says(ImageFolder::open(one.path()), &["only one class, `cat`"]);
    let hollow = folder_with(&["cat/1.jpg", "dog/notes.txt", "eel/1.jpg"]);
    assert_says(
        ImageFolder::open(hollow.path()),
        &["class folder `dog` holds no JPEG, PNG, WebP or GIF"],
    );
    let above = folder_with(&["train/cat/1.jpg", "val/cat/1.jpg"]);
    assert_says(ImageFolder::open(above.path()), &["`train`, `val`", "are splits, not classes"]);
}

#[test]
fn a_validation_set_uses_the_training_indices() {
    let classes = ["ant", "bee", "cat"].map(String::from);
    let root = folder_with(&["cat/1.jpg", "ant/1.jpg"]);
    let folder = ImageFolder::open_with_classes(root.path(), &classes).unwrap();
    assert_eq!(folder.classes, classes);
    assert_eq!(folder.samples.iter().map(|(_, class)| *class).collect::<Vec<_>>(), [0, 2]);

    let root = folder_with(&["cat/1.jpg", "dog/1.jpg", "eel/1.jpg"]);
    let result = ImageFolder::open_with_classes(root.path(), &classes);
    assert_says(result, &["2 class folders are not among the 3 training classes: `dog`, `eel`"]);
}

#[test]
fn splits_are_found_by_their_usual_names() {
    for name in ["val", "validation", "valid", "test"] {
        let root = folder_with(&["train/a/1.jpg", &format!("{name}/a/1.jpg")]);
        assert_eq!(split_folder(root.path(), Split::Val).unwrap(), root.path().join(name));
        assert_eq!(split_folder(root.path(), Split::Train).unwrap(), root.path().join("train"));
    }
    let both = folder_with(&["test/a/1.jpg", "val/a/1.jpg"]);
    assert_eq!(split_folder(both.path(), Split::Val).unwrap(), both.path().join("val"));
    assert_says(
        split_folder(both.path(), Split::Train),
        &["no folder for the split `train`", "found `test`, `val`"],
    );
    assert_says(split_folder(both.path().join("gone"), Split::Val), &["gone", "does not exist"]);
}

fn folder_with(files: &[&str]) -> TempDir {
    let root = tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap_or(Path::new(""))).unwrap();
        fs::write(path, "").unwrap();
    }
    root
}

fn assert_says<T: std::fmt::Debug>(result: biformer::Result<T>, expected: &[&str]) {
    let error = result.unwrap_err().to_string();
    for part in expected {
        assert!(error.contains(part), "got: {error}, expected: {part}");
    }
}
