//! The errors of a configuration: all of them, each with its key and the source that set it.

use std::fmt;

use super::located::Lines;
use super::origin::{Origin, Origins, dotted, is_at_or_below, one_line};

/// One error. Displays as `config.yaml:12: limits.max_streams: must be at least 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, variable or flag that set the value, or that should have set it.
    pub origin: Origin,
    /// The line of the key in the configuration file; `None` for other origins, and for errors about the whole file.
    pub line: Option<u64>,
    /// The key, as in `registries."ghcr.io".url`. Empty if the error concerns the source as a whole.
    pub key: String,
    /// What is wrong, and what would be right. It never contains a URL or the value of a header.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&one_line(&self.message))
    }
}

/// All errors of a configuration, at least one. Displays each error on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The findings, in the order of the sources, then of the checks.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The findings so far, and the keys that have no usable value.
#[derive(Default)]
pub(super) struct Report {
    origins: Origins,
    lines: Lines,
    errors: Vec<ConfigError>,
    broken: Vec<String>,
    /// Values that were removed because of a finding in them, for example a map that lacks a key.
    removed: Vec<String>,
}

impl Report {
    /// Adds a finding about a source as a whole.
    pub(super) fn source(&mut self, origin: Origin, line: Option<u64>, message: String) {
        self.errors.push(ConfigError { origin, line, key: String::new(), message });
    }

    /// Sets the origins and lines of the merged values. Later findings are about these values.
    pub(super) fn set_origins(&mut self, origins: Origins, lines: Lines) {
        self.origins = origins;
        self.lines = lines;
    }

    /// Adds a finding about the value at `pointer`, unless there is already one about this value or a value in it, which is
    /// then the cause.
    pub(super) fn structure(&mut self, pointer: &str, message: String) {
        if !self.broken.iter().any(|broken| is_at_or_below(broken, pointer)) {
            self.push(pointer, pointer, message);
            self.broken.push(pointer.to_owned());
        }
    }

    /// Records that the value at `pointer` was removed. [`Report::rule`] then reports no finding about it or a value in it.
    pub(super) fn removed(&mut self, pointer: &str) {
        self.removed.push(pointer.to_owned());
    }

    /// Whether neither the value at `pointer` nor a value in it was removed.
    pub(super) fn is_intact(&self, pointer: &str) -> bool {
        !self.removed.iter().any(|removed| is_at_or_below(removed, pointer))
    }

    /// Adds a finding about the value at `pointer` alone, unless there is already one about this value.
    pub(super) fn single(&mut self, pointer: &str, message: String) {
        if !self.broken.iter().any(|broken| is_at_or_below(pointer, broken)) {
            self.push(pointer, pointer, message);
        }
    }

    /// Adds a finding about a combination of values under the key of the first one. Does nothing if one of them is wrong or
    /// was removed, because the combination is then not known. The origin is that of the first value that is not a default:
    /// if a default does not match a value in the file, the error names the file.
    pub(super) fn rule(&mut self, pointers: &[&str], message: impl Into<String>) {
        let is_known = |pointer: &&str| {
            !self.broken.iter().chain(&self.removed).any(|wrong| is_at_or_below(pointer, wrong))
        };
        if let Some(key) = pointers.first()
            && pointers.iter().all(is_known)
        {
            let set =
                pointers.iter().find(|pointer| *self.origins.nearest_origin(pointer) != Origin::Default);
            self.push(set.unwrap_or(key), key, message.into());
        }
    }

    /// Adds a finding under `key`. Its origin and line are those of the value at `located_at`.
    fn push(&mut self, located_at: &str, key: &str, message: String) {
        let origin = self.origins.nearest_origin(located_at).clone();
        let line = matches!(origin, Origin::File(_)).then(|| self.line(located_at)).flatten();
        self.errors.push(ConfigError { origin, line, key: dotted(key), message });
    }

    /// The line of the value at `pointer`, or of the nearest value around it that is in the file.
    fn line(&self, pointer: &str) -> Option<u64> {
        let mut nearest = pointer;
        loop {
            if let Some(line) = self.lines.get(nearest) {
                return Some(*line);
            }
            (nearest, _) = nearest.rsplit_once('/')?;
        }
    }

    /// Returns the origins, or the errors if there are any.
    pub(super) fn finish(self) -> Result<Origins, ConfigErrors> {
        if self.errors.is_empty() { Ok(self.origins) } else { Err(self.into_errors()) }
    }

    pub(super) fn into_errors(self) -> ConfigErrors {
        ConfigErrors(self.errors)
    }
}
