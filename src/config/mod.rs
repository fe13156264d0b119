//! Configuration: a YAML file, the environment and the command line make one typed, checked [`Config`].
//!
//! The layers are merged as plain values first, each value remembering where it came from, then checked against the
//! JSON Schema that the types below generate, then given its type, and last checked against the rules that no schema
//! can express. No step stops at its first error: one start reports everything that is wrong, with the key and the file
//! and line, variable or flag that set it.
//!
//! | file | idea |
//! |---|---|
//! | `service` | the top level: [`Config`] |
//! | `registry`, `credentials`, `caller`, `limits` | the sections |
//! | `address`, `duration`, `header` | the kinds of text values: one parser each, for the schema's check and for the type |
//! | `file`, `located`, `environment` | what each source says, and on which line of the file |
//! | `layers`, `origin` | merging, and the origin of each value |
//! | `schema`, `structure` | the JSON Schema, and its findings in words |
//! | `referenced_files` | files that must be readable |
//! | `rules` | what the schema cannot say: keys that depend on each other |
//! | `load`, `error`, `render` | the way through all of these, and the two things that come out |
//!
//! Nothing here reads the process's environment or arguments: they are passed in, so that a test is a function call.

mod address;
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
mod origin;
mod referenced_files;
mod registry;
mod render;
mod rules;
mod schema;
mod service;
mod structure;

pub use address::{InvalidAddress, RegistryUrl, WebOrigin};
pub use caller::{Caller, CallerIdentity};
pub use credentials::Credentials;
pub use error::{ConfigError, ConfigErrors};
pub use header::{HeaderText, InvalidHeader};
pub use limits::Limits;
pub use load::{Flags, Loaded, Sources};
pub use origin::{Origin, Origins};
pub use registry::{HttpVersion, Registry};
pub use schema::schema;
pub use service::{Config, Tls};
