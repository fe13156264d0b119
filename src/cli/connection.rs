//! The connection from a client command to the service: address, TLS, token, deadline.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueHint};
use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt as _;

use super::failure::Failure;
use crate::grpc::proto::registry_service_client::RegistryServiceClient;

/// Where the server is.
#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// The server's address; https:// for TLS
    #[arg(long, env = "REXD_SERVER", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    server: String,
    /// Certificates to trust beside the system's, PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Option<PathBuf>,
    /// The certificate to show to a server that requires one, PEM
    #[arg(long, value_name = "FILE", requires = "key", value_hint = ValueHint::FilePath)]
    cert: Option<PathBuf>,
    /// The certificate's key, PEM
    #[arg(long, value_name = "FILE", requires = "cert", value_hint = ValueHint::FilePath)]
    key: Option<PathBuf>,
    /// A file with the token that tells the server who calls; of several lines, the first is sent
    #[arg(long, env = "REXD_TOKEN_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    token_file: Option<PathBuf>,
    /// Give up after this long, for example 30s; without it, streams may take as long as they need
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

impl ServerArgs {
    /// Connects, so that an address where nobody listens is said before anything else.
    pub(super) async fn connect(&self) -> Result<RegistryServiceClient<Channel>, Failure> {
        let usage = |error: tonic::transport::Error| {
            Failure::Usage(format!("--server {}: {}", self.server, root(&error)))
        };
        let mut endpoint = Endpoint::from_shared(self.server.clone()).map_err(usage)?;
        if self.token_file.is_some() && sends_in_clear_text(endpoint.uri()) {
            eprintln!("warning: the token goes to {} in clear text; https:// would not", self.server);
        }
        if self.server.starts_with("https://") {
            endpoint = endpoint.tls_config(self.tls()?).map_err(usage)?;
        }
        // Windows for fast downloads: 64 KiB at 20 ms would be 3 MB/s.
        let endpoint = endpoint.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
        let channel = endpoint.connect_timeout(Duration::from_secs(10)).connect().await;
        let channel = channel.map_err(|error| {
            Failure::Failed(format!("no connection to {}: {}", self.server, root(&error)))
        })?;
        Ok(RegistryServiceClient::new(channel).max_decoding_message_size(16 << 20))
    }

    fn tls(&self) -> Result<ClientTlsConfig, Failure> {
        let read = |file: &PathBuf| {
            std::fs::read(file).map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))
        };
        let mut tls = ClientTlsConfig::new().with_native_roots();
        if let Some(ca) = &self.ca {
            tls = tls.ca_certificate(Certificate::from_pem(read(ca)?));
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        Ok(tls)
    }

    /// A request with the deadline and the token.
    pub(super) fn request<T>(&self, message: T) -> Result<Request<T>, Failure> {
        let mut request = Request::new(message);
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        if let Some(file) = &self.token_file {
            let wrong =
                |problem: String| Failure::Usage(format!("--token-file {}: {problem}", file.display()));
            let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
            let token = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
            let token = token.ok_or_else(|| wrong("holds no token".to_owned()))?;
            let mut value = AsciiMetadataValue::try_from(format!("Bearer {token}"))
                .map_err(|_| wrong("its first line is no token".to_owned()))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// Whether what is sent can be read on the way.
fn sends_in_clear_text(server: &http::Uri) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    server.scheme_str() != Some("https") && !is_loopback
}

/// A status as a person reads it: the code, the stable reason, the message.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn status_failure(status: Status) -> Failure {
    let reason =
        status.get_details_error_info().map(|info| format!(" ({})", info.reason)).unwrap_or_default();
    Failure::Failed(format!("{:?}{reason}: {}", status.code(), status.message()))
}

fn root(error: &dyn std::error::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
