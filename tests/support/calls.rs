//! The service in front of a registry that requires a sign-in, calls of it, and files that hold secrets.

use std::{net::SocketAddr, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rexd::{
    client::{CredentialSource, Settings},
    grpc::proto::{
        GetManifestRequest, ListCatalogRequest, ListTagsRequest, PingRequest, PingResponse,
        StreamBlobRequest, registry_service_client::RegistryServiceClient,
    },
};
use tempfile::TempDir;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use super::{
    service::{Options, Service, settings, with_http},
    token_server::TokenServer,
};

/// The name of the registry in these tests.
pub const NAME: &str = "registry.test";

/// Files that hold secrets. Dropping it removes them.
#[derive(Debug)]
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// A user name with its password, in a file of its own.
    pub fn password(&self, username: &str, password: &str) -> CredentialSource {
        CredentialSource::Password {
            username: username.to_owned(),
            password_file: self.write(&format!("{username}.password"), password),
        }
    }

    /// A docker config with these entries.
    pub fn docker_config(&self, auths: serde_json::Value) -> CredentialSource {
        let config = serde_json::json!({ "auths": auths });
        CredentialSource::DockerConfig { file: self.write("config.json", config.to_string()) }
    }
}

/// An entry of a docker config.
pub fn auth(username: &str, password: &str) -> serde_json::Value {
    serde_json::json!({ "auth": STANDARD.encode(format!("{username}:{password}")) })
}

/// A registry with credentials, and with one token service that may get them.
pub fn signed_in(address: SocketAddr, source: CredentialSource, tokens: Option<&TokenServer>) -> Settings {
    let settings = Settings { credentials: vec![source], ..settings(NAME, address) };
    with_http(settings, |http| http.token_realms = tokens.map(TokenServer::origin).into_iter().collect())
}

/// A registry without credentials, and with one token service.
pub fn anonymous(address: SocketAddr, tokens: &TokenServer) -> Settings {
    with_http(settings(NAME, address), |http| http.token_realms = vec![tokens.origin()])
}

/// The service in front of one registry, and a client of it.
pub struct Calls {
    pub client: RegistryServiceClient<Channel>,
    _service: Service,
}

impl Calls {
    pub async fn to(settings: Settings) -> Self {
        Self::to_all(vec![settings]).await
    }

    pub async fn to_all(settings: Vec<Settings>) -> Self {
        Self::with(settings, Options::default()).await
    }

    pub async fn with(settings: Vec<Settings>, options: Options) -> Self {
        let service = Service::start(settings, options).await;
        Self { client: service.client().await, _service: service }
    }

    pub async fn ping(&self) -> Result<PingResponse, Status> {
        let request = PingRequest { registry: NAME.to_owned() };
        Ok(self.client.clone().ping(request).await?.into_inner())
    }

    /// The tags of a repository. There is one: the user that the registry served.
    pub async fn served(&self, repository: &str) -> Result<String, Status> {
        self.served_by(NAME, repository).await
    }

    pub async fn served_by(&self, registry: &str, repository: &str) -> Result<String, Status> {
        let request = ListTagsRequest {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            ..ListTagsRequest::default()
        };
        let response = self.client.clone().list_tags(request).await?.into_inner();
        Ok(response.tags.concat())
    }

    /// The content of a manifest.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Result<bytes::Bytes, Status> {
        let request = GetManifestRequest {
            registry: NAME.to_owned(),
            repository: repository.to_owned(),
            reference: reference.to_owned(),
            ..GetManifestRequest::default()
        };
        Ok(self.client.clone().get_manifest(request).await?.into_inner().content)
    }

    /// Reads a blob to its end, and drops its content.
    pub async fn blob(&self, repository: &str, digest: &str) -> Result<(), Status> {
        let request = StreamBlobRequest {
            registry: NAME.to_owned(),
            repository: repository.to_owned(),
            digest: digest.to_owned(),
            ..StreamBlobRequest::default()
        };
        let mut frames = self.client.clone().stream_blob(request).await?.into_inner();
        while frames.message().await?.is_some() {}
        Ok(())
    }

    pub async fn catalog(&self) -> Result<Vec<String>, Status> {
        let request = ListCatalogRequest { registry: NAME.to_owned(), ..ListCatalogRequest::default() };
        Ok(self.client.clone().list_catalog(request).await?.into_inner().repositories)
    }
}

/// Fails unless the status has this code and this reason.
#[track_caller]
pub fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, reason: &str) -> Status {
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().reason, reason, "{status:?}");
    status
}
