//! `credentials`: how the service signs in to a registry. The configuration holds the names of files, never secrets, so
//! that secrets can be rotated.

use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// Where a registry's credentials are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Keys", into = "Keys")]
pub enum Credentials {
    /// Docker config.json or .dockerconfigjson files, searched in this order; never empty.
    DockerConfig(Vec<PathBuf>),
    /// A user name, and the file with its password.
    Password {
        /// The user name, as it is.
        username: String,
        /// The file with the password; a line end after it is not part of it.
        password_file: PathBuf,
    },
    /// A file with a registry token, sent as it is (`Authorization: Bearer`).
    Token {
        /// The file with the token; a line end after it is not part of it.
        token_file: PathBuf,
    },
}

/// The keys of `credentials` as written. A struct rather than an untagged enum, so that a misspelt key is reported
/// as itself, not as "matches no variant".
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["docker_config"], "maxProperties": 1},
    {"required": ["username", "password_file"], "maxProperties": 2},
    {"required": ["token_file"], "maxProperties": 1},
]))]
struct Keys {
    /// Docker config.json or .dockerconfigjson: one file, or a list of files.
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "one_or_many_schema")]
    docker_config: Option<Vec<PathBuf>>,
    /// User name. Needs `password_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    username: Option<String>,
    /// File with the password of `username`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "file"))]
    password_file: Option<PathBuf>,
    /// File with a registry token, sent as a bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "file"))]
    token_file: Option<PathBuf>,
}

impl TryFrom<Keys> for Credentials {
    type Error = &'static str;

    fn try_from(keys: Keys) -> Result<Self, Self::Error> {
        match keys {
            Keys { docker_config: Some(files), username: None, password_file: None, token_file: None } => {
                Ok(Self::DockerConfig(files))
            }
            Keys {
                docker_config: None,
                username: Some(username),
                password_file: Some(password_file),
                token_file: None,
            } => Ok(Self::Password { username, password_file }),
            Keys {
                docker_config: None,
                username: None,
                password_file: None,
                token_file: Some(token_file),
            } => Ok(Self::Token { token_file }),
            _ => Err("needs exactly one of docker_config, username with password_file, token_file"),
        }
    }
}

impl From<Credentials> for Keys {
    fn from(credentials: Credentials) -> Self {
        match credentials {
            Credentials::DockerConfig(files) => Self { docker_config: Some(files), ..Self::default() },
            Credentials::Password { username, password_file } => {
                Self { username: Some(username), password_file: Some(password_file), ..Self::default() }
            }
            Credentials::Token { token_file } => Self { token_file: Some(token_file), ..Self::default() },
        }
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<PathBuf>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }
    Ok(Some(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(file) => vec![file],
        OneOrMany::Many(files) => files,
    }))
}

fn one_or_many_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "array"],
        "format": "file",
        "items": {"type": "string", "format": "file"},
        "minItems": 1
    })
}
