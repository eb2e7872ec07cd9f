//! The one error of this library: what was wrong, where, and what would be right.

use std::path::{Path, PathBuf};

/// Result of everything in this crate that touches the outside world.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with files, weights, recipes and options.
///
/// A broken tensor shape is a programming error and panics, as in Burn; everything that
/// comes from outside the program ends here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // of the fields of the variants: their names say it
pub enum Error {
    /// The operating system refused to read or write `path`.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    /// `path` does not hold a picture that can be decoded.
    #[error("picture `{}`: {reason}", path.display())]
    Image { path: PathBuf, reason: String },
    /// `path` is not a data set in ImageFolder layout.
    #[error("data set `{}`: {reason}", path.display())]
    Dataset { path: PathBuf, reason: String },
    /// `path` is not a checkpoint that can be read, or not one for this model.
    #[error("checkpoint `{}`: {reason}", path.display())]
    Checkpoint { path: PathBuf, reason: String },
    /// A `hub:` source could not be resolved.
    #[error("hub source `{source_name}`: {reason}")]
    Hub { source_name: String, reason: String },
    /// A recipe holds a key or a value that cannot be used.
    #[error("recipe `{}`: {reason}", path.display())]
    Recipe { path: PathBuf, reason: String },
    /// An option is out of its range.
    #[error("option `{option}`: {reason}")]
    Option { option: &'static str, reason: String },
    /// Training cannot go on.
    #[error("training stopped: {0}")]
    Training(String),
    /// The processes of a run cannot work together.
    #[error("the processes of the run: {0}")]
    Processes(String),
}

impl Error {
    /// An [`Error::Io`]; `action` is a verb phrase such as "read" or "create the folder".
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.as_ref().to_owned(), source }
    }

    /// An [`Error::Image`].
    pub fn image(path: impl AsRef<Path>, reason: impl ToString) -> Self {
        Self::Image { path: path.as_ref().to_owned(), reason: reason.to_string() }
    }

    /// An [`Error::Dataset`].
    pub fn dataset(path: impl AsRef<Path>, reason: impl ToString) -> Self {
        Self::Dataset { path: path.as_ref().to_owned(), reason: reason.to_string() }
    }

    /// An [`Error::Checkpoint`].
    pub fn checkpoint(path: impl AsRef<Path>, reason: impl ToString) -> Self {
        Self::Checkpoint { path: path.as_ref().to_owned(), reason: reason.to_string() }
    }

    /// An [`Error::Recipe`].
    pub fn recipe(path: impl AsRef<Path>, reason: impl ToString) -> Self {
        Self::Recipe { path: path.as_ref().to_owned(), reason: reason.to_string() }
    }

    /// An [`Error::Option`].
    pub fn option(option: &'static str, reason: impl ToString) -> Self {
        Self::Option { option, reason: reason.to_string() }
    }
}
