//! The connection from a client command to the service: address, TLS, token, deadline.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueHint};
use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt as _;

use super::failure::Failure;
use crate::grpc::proto::registry_service_client::RegistryServiceClient;

/// How to connect to the service.
#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// The server's address: https:// for TLS, http:// for plaintext. On loopback, http:// may be left out
    #[arg(long, env = "REXD_SERVER", default_value = "http://127.0.0.1:50051", value_name = "URL", value_parser = server_url)]
    server: String,
    /// PEM file with certificate authorities to trust besides the system's
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Option<PathBuf>,
    /// PEM file with the client certificate, for a server that requires one
    #[arg(long, value_name = "FILE", requires = "key", value_hint = ValueHint::FilePath)]
    cert: Option<PathBuf>,
    /// PEM file with the private key of --cert
    #[arg(long, value_name = "FILE", requires = "cert", value_hint = ValueHint::FilePath)]
    key: Option<PathBuf>,
    /// File with the caller's token; if it has several lines, the first token is sent
    #[arg(long, env = "REXD_TOKEN_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    token_file: Option<PathBuf>,
    /// Fail after this time, for example 30s. Without it, a call has no time limit
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
}

/// Parses the address. Plaintext is assumed only on loopback, so that a token never leaves the host by mistake.
fn server_url(text: &str) -> Result<String, String> {
    match text.split_once("://") {
        Some(("http" | "https", _)) => Ok(text.to_owned()),
        Some(_) => Err("must start with http:// or https://".to_owned()),
        None => {
            let authority: http::uri::Authority =
                text.parse().map_err(|_| "must be a URL such as http://127.0.0.1:50051".to_owned())?;
            if is_loopback(authority.host()) {
                return Ok(format!("http://{text}"));
            }
            Err(format!("has no scheme: write https://{text} for TLS, or http://{text} for plaintext"))
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

impl ServerArgs {
    /// Connects at once, so that an unreachable server is reported before anything else.
    pub(super) async fn connect(&self) -> Result<RegistryServiceClient<Channel>, Failure> {
        let usage = |error: tonic::transport::Error| {
            Failure::Usage(format!("--server {}: {}", self.server, root(&error)))
        };
        let mut endpoint = Endpoint::from_shared(self.server.clone()).map_err(usage)?;
        if self.token_file.is_some() && sends_in_clear_text(endpoint.uri()) {
            eprintln!(
                "warning: the token is sent to {} in clear text; use https:// to encrypt it",
                self.server
            );
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
                .map_err(|_| wrong("its first line is not a token".to_owned()))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// Whether others on the network can read what is sent.
fn sends_in_clear_text(server: &http::Uri) -> bool {
    server.scheme_str() != Some("https") && !is_loopback(server.host().unwrap_or_default())
}

/// A failure with the status' code, reason and message.
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

#[cfg(test)]
mod tests {
    use super::server_url;

    #[test]
    fn an_address_without_a_scheme_is_plaintext_on_loopback_only() {
        for address in ["127.0.0.1:50051", "127.8.9.1:1", "[::1]:50051", "localhost:50051", "localhost"] {
            assert_eq!(server_url(address), Ok(format!("http://{address}")));
        }
        for address in ["rexd.internal:50051", "10.0.0.1:50051", "localhost.example.com", "[::2]:50051"] {
            let problem = format!("write https://{address} for TLS, or http://{address} for plaintext");
            assert!(server_url(address).is_err_and(|error| error.ends_with(&problem)), "{address}");
        }
    }

    #[test]
    fn an_address_with_a_scheme_is_used_unchanged() {
        for address in ["http://rexd.internal:50051", "https://127.0.0.1:50051"] {
            assert_eq!(server_url(address), Ok(address.to_owned()));
        }
        for wrong in ["dns:///rexd:50051", "", "a b"] {
            assert!(server_url(wrong).is_err(), "{wrong:?}");
        }
    }
}
