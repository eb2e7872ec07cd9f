//! Recipes as files: read with line and key of what is wrong, written with every value.

use std::io::Write;
use std::path::Path;

use super::Recipe;
use crate::files::write_atomically;
use crate::{Error, Result};

impl Recipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// [`Error::Recipe`] with line and key of what is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?;
        let recipe = Self::parse(&text).map_err(|reason| Error::recipe(path, reason))?;
        match recipe.check() {
            Ok(()) => Ok(recipe),
            Err(Error::Option { option, reason }) => {
                let place = line_of(&text, option).map(|line| format!("line {line}, "));
                let place = place.unwrap_or_default();
                Err(Error::recipe(path, format!("{place}`{option}`: {reason}")))
            }
            Err(error) => Err(error),
        }
    }

    /// Parses TOML without checking ranges.
    ///
    /// # Errors
    /// Line and key of what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }

    /// The recipe as TOML, with every value that its task has.
    pub fn text(&self) -> String {
        let mut table = self.table();
        table.retain(|key, _| !self.task.foreign_keys().any(|(foreign, _)| foreign == key));
        toml::to_string(&table).expect("a table is TOML")
    }

    /// Writes [`text`](Self::text).
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomically(path, |file| file.write_all(self.text().as_bytes()))
    }

    /// Keys and values of all tasks.
    pub(super) fn table(&self) -> toml::Table {
        toml::Table::try_from(self).expect("a recipe is TOML")
    }
}

/// The line, from 1, that sets `key`.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let sets_key = |line: &str| line.split('=').next().is_some_and(|left| left.trim() == key);
    text.lines().position(sets_key).map(|index| index + 1)
}
