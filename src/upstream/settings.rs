//! The configuration of one registry.

use url::Url;

use crate::{auth::CredentialSource, http, oci::Registry};

/// One registry: its name, where it is, how to reach it and how to sign in.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The registry's canonical name.
    pub registry: Registry,
    /// The URL of its API. A path, if there is one, comes before `/v2/`.
    pub url: Url,
    /// How to reach it.
    pub http: http::Settings,
    /// Where credentials come from. Of the docker configs, the most specific entry wins.
    pub credentials: Vec<CredentialSource>,
    /// Parameters that this registry's links to the next page may have, besides the usual ones.
    pub page_parameters: Vec<String>,
}

/// The host of Docker Hub's API. Image references name another one.
const DOCKER_HUB_API: &str = "https://registry-1.docker.io";

impl Settings {
    /// The default URL: `https://<name>`, and Docker Hub's own host.
    pub fn default_url(registry: &Registry) -> Result<Url, url::ParseError> {
        if registry.is_docker_hub() {
            Url::parse(DOCKER_HUB_API)
        } else {
            Url::parse(&format!("https://{registry}"))
        }
    }
}
