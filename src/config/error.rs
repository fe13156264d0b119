//! What is wrong with a configuration: all of it, each finding with its key and where that was set.

use std::fmt;

use super::origin::{Origin, Origins, dotted, is_at_or_below, one_line};

/// One thing that is wrong. Displays as `config.yaml: limits.max_streams: must be at least 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, variable or flag that set it, or that should have.
    pub origin: Origin,
    /// The key, as in `registries."ghcr.io".url`; empty when it is about the source as a whole.
    pub key: String,
    /// What is wrong, and what would be right. Never holds the value of a header, nor a URL.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
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
    errors: Vec<ConfigError>,
    broken: Vec<String>,
}

impl Report {
    /// A finding about a source as a whole.
    pub(super) fn source(&mut self, origin: Origin, message: String) {
        self.errors.push(ConfigError { origin, key: String::new(), message });
    }

    /// From here on findings are about merged values, which came from `origins`.
    pub(super) fn blame_by(&mut self, origins: Origins) {
        self.origins = origins;
    }

    /// A finding about the value at `pointer` – unless something was already found at it or in it, of which this
    /// would be an echo.
    pub(super) fn structure(&mut self, pointer: &str, message: String) {
        if !self.broken.iter().any(|broken| is_at_or_below(broken, pointer)) {
            self.push(self.origins.blame(pointer).clone(), pointer, message);
            self.broken.push(pointer.to_owned());
        }
    }

    /// A finding about how the values at `pointers` go together, under the first one's key – unless one of them was
    /// already found wrong, so that nothing can be said of it. Whoever set the first of them that anybody set is to
    /// blame: with a default that does not suit what the file says, the file.
    pub(super) fn rule(&mut self, pointers: &[&str], message: impl Into<String>) {
        let is_broken = |pointer: &&str| self.broken.iter().any(|broken| is_at_or_below(pointer, broken));
        if let Some(pointer) = pointers.first()
            && !pointers.iter().any(is_broken)
        {
            let mut origins = pointers.iter().map(|pointer| self.origins.blame(pointer));
            let origin = origins.find(|origin| **origin != Origin::Default).unwrap_or(&Origin::Default);
            self.push(origin.clone(), pointer, message.into());
        }
    }

    fn push(&mut self, origin: Origin, pointer: &str, message: String) {
        self.errors.push(ConfigError { origin, key: dotted(pointer), message });
    }

    /// The origins back, or everything that was found.
    pub(super) fn finish(self) -> Result<Origins, ConfigErrors> {
        if self.errors.is_empty() { Ok(self.origins) } else { Err(self.into_errors()) }
    }

    pub(super) fn into_errors(self) -> ConfigErrors {
        ConfigErrors(self.errors)
    }
}
