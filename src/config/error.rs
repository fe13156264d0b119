//! What is wrong with a configuration: all of it, each finding with its key and where that was set.

use std::fmt;

use super::located::Lines;
use super::origin::{Origin, Origins, dotted, is_at_or_below, one_line};

/// One thing that is wrong. Displays as `config.yaml:12: limits.max_streams: must be at least 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, variable or flag that set it, or that should have.
    pub origin: Origin,
    /// The line of the key in the configuration file; `None` for other origins, and for errors about the whole file.
    pub line: Option<u64>,
    /// The key, as in `registries."ghcr.io".url`; empty when it is about the source as a whole.
    pub key: String,
    /// What is wrong, and what would be right. Never holds the value of a header, nor a URL.
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

/// Everything that is wrong, at least one thing. Displays as one line each.
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
    /// What was taken out because of a finding in it: a map that lacks a key, for example.
    removed: Vec<String>,
}

impl Report {
    /// A finding about a source as a whole.
    pub(super) fn source(&mut self, origin: Origin, line: Option<u64>, message: String) {
        self.errors.push(ConfigError { origin, line, key: String::new(), message });
    }

    /// From here on findings are about merged values: `origins` says where they came from, `lines` on which lines of the
    /// file they are.
    pub(super) fn blame_by(&mut self, origins: Origins, lines: Lines) {
        self.origins = origins;
        self.lines = lines;
    }

    /// A finding about the value at `pointer` – unless something was already found at it or in it, of which this
    /// would be an echo.
    pub(super) fn structure(&mut self, pointer: &str, message: String) {
        if !self.broken.iter().any(|broken| is_at_or_below(broken, pointer)) {
            self.push(pointer, pointer, message);
            self.broken.push(pointer.to_owned());
        }
    }

    /// Later findings about `pointer`, or about something in it, are not reported by [`Report::rule`]: the value was taken
    /// out.
    pub(super) fn removed(&mut self, pointer: &str) {
        self.removed.push(pointer.to_owned());
    }

    /// Whether nothing in the value at `pointer` was taken out.
    pub(super) fn is_intact(&self, pointer: &str) -> bool {
        !self.removed.iter().any(|removed| is_at_or_below(removed, pointer))
    }

    /// A finding about the value at `pointer` alone – unless the value was already found wrong.
    pub(super) fn single(&mut self, pointer: &str, message: String) {
        if !self.broken.iter().any(|broken| is_at_or_below(pointer, broken)) {
            self.push(pointer, pointer, message);
        }
    }

    /// A finding about a combination of values, reported under the first one's key – unless one of them was already found
    /// wrong, or taken out, so that the combination is not known. The origin is that of the first of them that is not a
    /// default: when a default does not suit what the file says, the error names the file.
    pub(super) fn rule(&mut self, pointers: &[&str], message: impl Into<String>) {
        let is_known = |pointer: &&str| {
            !self.broken.iter().chain(&self.removed).any(|wrong| is_at_or_below(pointer, wrong))
        };
        if let Some(key) = pointers.first()
            && pointers.iter().all(is_known)
        {
            let set = pointers.iter().find(|pointer| *self.origins.blame(pointer) != Origin::Default);
            self.push(set.unwrap_or(key), key, message.into());
        }
    }

    /// Adds a finding under `key`. Its origin and line are those of the value at `blamed`.
    fn push(&mut self, blamed: &str, key: &str, message: String) {
        let origin = self.origins.blame(blamed).clone();
        let line = matches!(origin, Origin::File(_)).then(|| self.line(blamed)).flatten();
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

    /// The origins back, or everything that was found.
    pub(super) fn finish(self) -> Result<Origins, ConfigErrors> {
        if self.errors.is_empty() { Ok(self.origins) } else { Err(self.into_errors()) }
    }

    pub(super) fn into_errors(self) -> ConfigErrors {
        ConfigErrors(self.errors)
    }
}
