//! Configuration: reads a YAML file, the environment and the command line into one validated [`Config`].
//!
//! First the sources are merged as plain values, with the origin of each value. Then the values are checked against the
//! JSON Schema that the types generate, converted to the types, and checked against the rules that a schema cannot
//! express. No step stops at its first error: one start reports all errors, each with its key and the line of the file, the
//! variable or the flag that set it.
//!
//! | file | what it does |
//! |---|---|
//! | `service` | the top level: [`Config`] |
//! | `registry`, `credentials`, `caller`, `limits`, `cache`, `cache_shared`, `cache_store`, `log` | the sections |
//! | `address`, `duration`, `header` | the kinds of text values: one parser each, for the schema's check and for the type |
//! | `file`, `located`, `environment` | read the sources, with the line of each value in the file |
//! | `layers`, `origin` | merge the sources, and keep the origin of each value |
//! | `schema`, `structure` | generate the JSON Schema, and describe in words what does not match it |
//! | `referenced_files` | checks that files can be read |
//! | `rules` | checks keys that depend on each other, which a schema cannot express |
//! | `load`, `error`, `render` | run all these steps; report the errors; print the configuration |
//!
//! This module does not read the process's environment or arguments. They are passed in, so that tests can pass others.

mod address;
mod cache;
mod cache_shared;
mod cache_store;
mod caller;
mod credentials;
mod duration;
mod environment;
mod error;
mod file;
mod header;
mod layers;
mod limits;
mod load;
mod located;
mod log;
mod origin;
mod referenced_files;
mod registry;
mod render;
mod rules;
mod schema;
mod service;
mod structure;

pub use address::{InvalidAddress, RegistryUrl, WebOrigin};
pub use cache::Cache;
pub use cache_shared::{CacheShared, RegistryFleet};
pub use cache_store::{CacheStore, StorePlace, StoreUrl};
pub use caller::{Caller, CallerIdentity, CallerLimits};
pub use credentials::Credentials;
pub use error::{ConfigError, ConfigErrors};
pub use header::{HeaderText, InvalidHeader};
pub use limits::Limits;
pub use load::{Flags, Loaded, Sources};
pub use log::{Log, LogFormat};
pub use origin::{Origin, Origins};
pub use registry::{HttpVersion, Registry};
pub use schema::schema;
pub use service::{Config, Tls};
