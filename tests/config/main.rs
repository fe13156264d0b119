//! What operators rely on in the configuration: precedence, defaults, and errors that name key and origin, all at once.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod callers;
mod errors;
mod hostile;
mod output;
mod reference;
mod values;

use std::fs;
use std::path::PathBuf;

use rexd::config::{Config, ConfigErrors, Flags, Loaded, Sources};
use tempfile::TempDir;

/// A configuration file in a directory of its own, with an environment and flags.
pub(crate) struct Setup {
    pub(crate) directory: TempDir,
    pub(crate) sources: Sources<Vec<(String, String)>>,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self { directory: TempDir::new().unwrap(), sources: Sources::default() }
    }

    pub(crate) fn file(mut self, yaml: &str) -> Self {
        self.sources.file = Some(self.write("config.yaml", yaml));
        self
    }

    /// A file in which `DIR` stands for the directory of this setup.
    pub(crate) fn at_directory(self, yaml: &str) -> Self {
        let yaml = yaml.replace("DIR", &self.directory.path().display().to_string());
        self.file(&yaml)
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn flags(mut self, flags: Flags) -> Self {
        self.sources.flags = flags;
        self
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn load(&self) -> Result<Loaded, ConfigErrors> {
        Config::load(self.sources.clone())
    }

    pub(crate) fn config(&self) -> Config {
        self.load().unwrap_or_else(|errors| panic!("{errors}")).config
    }

    /// The errors, one a line, without the directory's name.
    pub(crate) fn errors(&self) -> String {
        let errors = self.load().expect_err("this configuration is wrong").to_string();
        errors.replace(&format!("{}/", self.directory.path().display()), "")
    }
}
