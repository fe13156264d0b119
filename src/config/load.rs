//! Loads a configuration from its sources.

use std::path::PathBuf;

use serde_json::Value;

use super::environment::{self, Variable};
use super::error::{ConfigErrors, Report};
use super::file::FileError;
use super::layers::Layers;
use super::located::Lines;
use super::origin::{Origin, Origins};
use super::schema::{schema, validator};
use super::service::Config;
use super::{file, referenced_files, rules, structure};

/// The sources of a configuration. Later ones override earlier ones, and all override the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources<E> {
    /// The YAML file, if there is one.
    pub file: Option<PathBuf>,
    /// The names and values of environment variables, as text. Variables that do not start with `REXD_` are ignored.
    pub environment: E,
    /// The values that the command line sets.
    pub flags: Flags,
}

/// The values of the flags, unparsed. They are read like those of environment variables.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--listen`
    pub listen: Option<String>,
    /// `--ops-listen`; `null` turns it off.
    pub ops_listen: Option<String>,
    /// `--default-registry`
    pub default_registry: Option<String>,
    /// `--allow-unlisted`
    pub allow_unlisted: Option<bool>,
}

/// A valid configuration, and the origin of each of its values.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The origin of each value.
    pub origins: Origins,
    /// `config` as values with the secrets redacted, for [`Loaded::render`].
    pub(super) effective: Value,
}

impl Config {
    /// Merges the sources – flags over environment over file over defaults – and checks the result.
    ///
    /// Reads the configuration file, and checks that the files that it names can be read. Reads nothing else.
    ///
    /// # Errors
    ///
    /// All errors in the configuration.
    pub fn load<E>(sources: Sources<E>) -> Result<Loaded, ConfigErrors>
    where
        E: IntoIterator<Item = (String, String)>,
    {
        let schema = schema();
        let mut report = Report::default();
        let mut layers = Layers::new();
        let lines = add_file(sources.file, &mut layers, &mut report);
        let file_is_known = lines.is_some();
        add_environment(sources.environment, &schema, &mut layers, &mut report);
        add_flags(sources.flags, &schema, &mut layers, &mut report);
        let Layers { mut value, origins } = layers;
        report.set_origins(origins, lines.unwrap_or_default());
        let merged = value.clone();

        match validator(&schema) {
            Ok(validator) => structure::check(&mut value, &schema, &validator, &mut report),
            Err(error) => report.source(Origin::Default, None, format!("the schema is invalid: {error}")),
        }
        referenced_files::check(&merged, &schema, "", &mut report);
        set_default_registry(&mut value);
        // A value that matches the schema can be converted to its type. If one cannot, that is an error, not a panic.
        let typed = serde_json::from_value::<Config>(value);
        let complete = typed.and_then(|config| Ok((serde_json::to_value(&config)?, config)));
        match complete {
            Ok((effective, config)) => {
                // Without the file's values, rules about missing values would report false errors.
                if file_is_known {
                    rules::check(&config, &mut report);
                }
                Ok(Loaded { config, origins: report.finish()?, effective })
            }
            Err(error) => {
                report.source(Origin::Default, None, error.to_string());
                Err(report.into_errors())
            }
        }
    }
}

/// Sets the default registry where no source does: the only registry of `registries`, or none. Without `registries`, the
/// default stays that of [`Config::default`].
fn set_default_registry(value: &mut Value) {
    let Some(config) = value.as_object_mut() else { return };
    let is_set = config.get("default_registry").is_some_and(|name| !name.is_null());
    let mut names = match config.get("registries") {
        Some(Value::Object(registries)) if !is_set => registries.keys(),
        _ => return,
    };
    let only = if names.len() == 1 { names.next().cloned().map(Value::String) } else { None };
    config.insert("default_registry".to_owned(), only.unwrap_or_default());
}

/// Adds the file's values and returns their lines. `None`: the file could not be read.
fn add_file(path: Option<PathBuf>, layers: &mut Layers, report: &mut Report) -> Option<Lines> {
    let Some(path) = path else { return Some(Lines::new()) };
    match file::read(&path) {
        Ok((value, lines)) => {
            layers.add(value, &Origin::File(path));
            Some(lines)
        }
        Err(FileError { line, message }) => {
            report.source(Origin::File(path), line, message);
            None
        }
    }
}

fn add_environment<E>(variables: E, schema: &Value, layers: &mut Layers, report: &mut Report)
where
    E: IntoIterator<Item = (String, String)>,
{
    let mut variables: Vec<(String, String)> = variables.into_iter().collect();
    // The environment has no order. Sorting puts `REXD_LIMITS__MAX_PAGES` after `REXD_LIMITS`, so that it overrides it.
    variables.sort();
    for (name, text) in variables {
        match environment::read(&name, &text, schema) {
            Ok(Variable::Ignored) => {}
            Ok(Variable::Layer(value)) => layers.add(value, &Origin::Environment(name)),
            Err(message) => report.source(Origin::Environment(name), None, message),
        }
    }
}

fn add_flags(flags: Flags, schema: &Value, layers: &mut Layers, report: &mut Report) {
    let Flags { listen, ops_listen, default_registry, allow_unlisted } = flags;
    let given = [
        ("--listen", "listen", listen),
        ("--ops-listen", "ops_listen", ops_listen),
        ("--default-registry", "default_registry", default_registry),
        ("--allow-unlisted", "allow_unlisted", allow_unlisted.map(|allow| allow.to_string())),
    ];
    for (flag, key, text) in given {
        let Some(text) = text else { continue };
        match environment::layer(&[key.to_owned()], &text, schema) {
            Ok(value) => layers.add(value, &Origin::Flag(flag)),
            Err(message) => report.source(Origin::Flag(flag), None, message),
        }
    }
}
