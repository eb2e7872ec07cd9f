//! Checkpoint files: parity with the official layouts, round trips, writes that fail, wrong files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use biformer::files::write_atomically;
use biformer::weights::{
    StateDict, StateTensor, read_metadata, read_state_dict, read_state_dict_from, write_safetensors,
};

#[test]
fn an_unknown_key_is_answered_with_the_known_ones() {
    let release = fixtures().join("ckpt_mini_release.pth");
    let message = read_state_dict_from(&release, Some("teacher")).unwrap_err().to_string();
    assert!(message.contains("`teacher`") && message.contains("`model`"), "{message}");
}

#[test]
fn a_round_trip_keeps_every_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mini.safetensors");
    let special = vec![0.0, -0.0, f32::MIN_POSITIVE / 8.0, f32::INFINITY, f32::NAN, f32::MAX];
    let tensors = StateDict::from([
        ("stages.0.0.attn.qkv.weight".to_owned(), StateTensor::new(vec![2, 3], special)),
        ("scale \"α\"\n".to_owned(), StateTensor::new(vec![], vec![1.5])),
        ("nothing".to_owned(), StateTensor::new(vec![0, 7], vec![])),
    ]);
    let metadata: BTreeMap<_, _> =
        (0..20).map(|index| (format!("key{index}"), format!("\"{index}\" ü"))).collect();

    write_safetensors(&path, &tensors, &metadata).unwrap();
    let first = fs::read(&path).unwrap();
    let found = read_state_dict(&path).unwrap();
    assert_eq!(names(&found), names(&tensors));
    for (name, tensor) in &tensors {
        let bits =
            |tensor: &StateTensor| tensor.data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found[name]), bits(tensor));
        assert_eq!(found[name].shape, tensor.shape);
    }
    assert_eq!(read_metadata(&path).unwrap(), metadata);

    // The same again gives the same bytes, and others can read them.
    write_safetensors(&path, &found, &metadata).unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
    assert_eq!(safetensors::SafeTensors::deserialize(&first).unwrap().len(), tensors.len());
    assert_eq!(files_in(folder.path()), ["mini.safetensors"]);
}

#[test]
fn a_tensor_that_does_not_fit_its_shape_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.safetensors");
    let wrong = StateTensor { shape: vec![2, 2], data: vec![1.0; 3] };
    let tensors = StateDict::from([("head.weight".to_owned(), wrong)]);
    let message = write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap_err().to_string();
    assert!(message.contains("head.weight") && message.contains("3 elements"), "{message}");
    assert!(!path.exists());
}

#[test]
#[cfg(unix)]
fn a_failed_write_leaves_the_old_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best.safetensors");
    fs::write(&path, "old").unwrap();
    // The error that a full disk gives, from the device made for it.
    let written = write_atomically(&path, |file| {
        use std::io::Write;
        file.write_all(b"the first half")?;
        fs::OpenOptions::new().write(true).open("/dev/full")?.write_all(b"the second half")
    });
    let message = written.unwrap_err().to_string();
    assert!(message.contains("best.safetensors: cannot write"), "{message}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(files_in(folder.path()), ["best.safetensors"]);
}

#[test]
#[cfg(unix)]
fn a_full_disk_leaves_the_old_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=64k", "tmpfs"];
    let mounted = std::process::Command::new("mount").args(mount).arg(&disk).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("skipped: cannot mount a small disk (needs root)");
        return;
    }
    let path = disk.join("best.safetensors");
    let written = ["small", "large"].map(|name| {
        let elements = if name == "small" { 10 } else { 100_000 };
        let tensors = StateDict::from([(
            name.to_owned(),
            StateTensor::new(vec![elements], vec![1.0; elements]),
        )]);
        write_safetensors(&path, &tensors, &BTreeMap::new())
    });
    let (left, found) = (files_in(&disk), read_state_dict(&path));
    std::process::Command::new("umount").arg(&disk).status().unwrap();

    assert!(written[0].is_ok());
    let message = written[1].as_ref().unwrap_err().to_string();
    assert!(message.contains("No space left"), "{message}");
    assert_eq!(left, ["best.safetensors"]);
    assert!(found.unwrap().contains_key("small"));
}

#[test]
#[cfg(unix)]
fn places_that_cannot_be_written_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("missing/best.safetensors");
    for path in [nowhere.as_path(), folder.path(), Path::new("/dev/null"), Path::new("/proc/best")]
    {
        let error = write_safetensors(path, &StateDict::new(), &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    }
    use std::os::unix::fs::FileTypeExt;
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[test]
#[cfg(unix)]
fn a_written_file_is_as_readable_as_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
    write_atomically(&ours, |_| Ok(())).unwrap();
    fs::write(&plain, "").unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(ours), mode(plain));
}

#[test]
fn what_is_not_a_checkpoint_is_called_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut tar = vec![0; 600];
    tar[257..262].copy_from_slice(b"ustar");
    let strangers: [(&[u8], &str); 9] = [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "picture"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "picture"),
        (&tar, "TAR"),
        (b"\x80\x02}q\0.", "pickle without tensors"),
        (b"just some text that is long enough", "not a checkpoint"),
        (b"PK\x03\x04 and then nothing more", "cannot be read as PyTorch"),
    ];
    for (bytes, reason) in strangers {
        let path = folder.path().join("model.pth"); // the name must not matter
        fs::write(&path, bytes).unwrap();
        let message = read_state_dict(&path).unwrap_err().to_string();
        assert!(message.contains(reason) && message.contains("model.pth"), "{reason}: {message}");
        assert!(read_metadata(&path).is_err());
    }
    let missing = read_state_dict(&folder.path().join("missing.pth")).unwrap_err().to_string();
    assert!(missing.contains("missing.pth") && missing.contains("cannot read"), "{missing}");
    let directory = read_state_dict(folder.path()).unwrap_err().to_string();
    assert!(directory.contains("is a folder"), "{directory}");
    if cfg!(unix) {
        let device = read_state_dict(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(device.contains("not a regular file"), "{device}");
    }
}

#[test]
fn truncated_checkpoints_are_errors() {
    let folder = fixtures();
    let scratch = tempfile::tempdir().unwrap();
    let copy = scratch.path().join("cut");
    for path in
        checkpoint_files(&folder).into_iter().chain([folder.join("ckpt_mini_expect.safetensors")])
    {
        let bytes = fs::read(path).unwrap();
        for cut in [bytes.len() / 2, bytes.len() - 100, bytes.len() - 1] {
            fs::write(&copy, &bytes[..cut]).unwrap();
            let message = read_state_dict(&copy).unwrap_err().to_string();
            assert!(message.contains("do so again and compare the sizes"), "{message}");
        }
    }
}

/// The small set of recorded checkpoints.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn checkpoint_files(folder: &Path) -> Vec<PathBuf> {
    let names = files_in(folder).into_iter();
    let checkpoints = names.filter(|name| name.starts_with("ckpt_") && name.ends_with(".pth"));
    checkpoints.map(|name| folder.join(name)).collect()
}

fn files_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn names(state_dict: &StateDict) -> Vec<&str> {
    state_dict.keys().map(String::as_str).collect()
}
