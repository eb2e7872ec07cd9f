//! Files are written whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

use crate::{Error, Result};

/// Writes `path` so that a reader sees the old file or the complete new one, never a part.
///
/// `write` fills a temporary file in the folder of `path`, which is then flushed to the disk and
/// renamed. On any failure (disk full, no permission, an error from `write`) the old file is left
/// as it was and the temporary file is removed. A symbolic link at `path` is replaced, not followed.
///
/// ```
/// # use std::io::Write;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("metrics.json");
/// biformer::files::write_atomically(&path, |file| file.write_all(b"{}"))?;
/// # assert_eq!(std::fs::read(&path).unwrap(), b"{}");
/// # Ok::<(), biformer::Error>(())
/// ```
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> Result<()> {
    refuse_special_file(path)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let fill_and_rename = || -> io::Result<()> {
        let mut temporary = temporary_file(folder)?;
        let mut buffer = BufWriter::new(temporary.as_file_mut());
        write(&mut buffer)?;
        buffer.flush()?;
        drop(buffer);
        temporary.as_file().sync_all()?; // before the rename: a crash must not leave an empty `path`
        temporary.persist(path)?;
        sync_folder(folder);
        Ok(())
    };
    fill_and_rename().map_err(|source| Error::io("write", path, source))
}

/// Writes a CSV as [`write_atomically`] does.
pub fn write_csv(
    path: &Path,
    write: impl FnOnce(&mut csv::Writer<&mut dyn Write>) -> Result<(), csv::Error>,
) -> Result<()> {
    write_atomically(path, |file| {
        let mut csv = csv::Writer::from_writer(file as &mut dyn Write);
        write(&mut csv).map_err(io::Error::from)?;
        csv.flush()
    })
}

/// Renaming over a device such as `/dev/null` would replace it by a file, for the whole machine.
fn refuse_special_file(path: &Path) -> Result<()> {
    match path.metadata() {
        Ok(existing) if !existing.is_file() => {
            let reason = "is a folder or a device; give the name of a file";
            Err(Error::io("write", path, io::Error::new(io::ErrorKind::InvalidInput, reason)))
        }
        _ => Ok(()),
    }
}

fn temporary_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".biformer-").suffix(".tmp");
    #[cfg(unix)]
    {
        // Temporary files are private by default; the result should be as readable as any new file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666)); // less the umask
    }
    builder.tempfile_in(folder)
}

/// Makes the rename itself durable. The file is already complete and in place, and not every file
/// system can sync a folder, so a failure is not an error.
fn sync_folder(folder: &Path) {
    if cfg!(unix) {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
}
