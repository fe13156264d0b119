//! Certificates that the listener has verified: the names in one identify its caller.

use std::collections::BTreeSet;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rexd::{
    callers::Identity as Known, grpc::proto::registry_service_client::RegistryServiceClient,
    server::tls::Files as TlsFiles,
};
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    REGISTRY, Setting, caller,
    support::{call::Call, calls::Files, service::Options, status::Failure},
};

const SPIFFE: &str = "spiffe://cluster.local/ns/ci/sa/build";
const TOKEN: &str = "deploy-token-0123456789";

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// A listener with TLS that requires client certificates of `authority`.
struct Tls {
    setting: Setting,
    authority: Issuer,
    _files: Files,
}

fn params(names: &[&str]) -> CertificateParams {
    let (uris, dns): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains("://"));
    let mut params = CertificateParams::new(dns.into_iter().map(str::to_owned).collect::<Vec<_>>()).unwrap();
    params.subject_alt_names.extend(uris.into_iter().map(|uri| SanType::URI(uri.try_into().unwrap())));
    params
}

/// A certificate with these names, and its key, as PEM.
fn issue(issuer: &Issuer, names: &[&str]) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    (params(names).signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

fn named(names: &[&str]) -> Known {
    Known::CertificateNames(names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>())
}

impl Tls {
    /// `build` is identified by a SPIFFE ID or a DNS name, `deploy` by a token.
    async fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let files = Files::new();
        let (certificate, key) = issue(&authority, &["rexd.test"]);
        let tls = TlsFiles {
            certificate: files.write("tls.crt", certificate),
            key: files.write("tls.key", key),
            client_ca: Some(files.write("ca.crt", authority.pem())),
        };
        let callers = [
            caller("build", &["registry.test:5000/build/"], named(&[SPIFFE, "build.internal"])),
            caller("release", &["registry.test:5000/release/"], named(&["release.internal"])),
            caller("deploy", &["registry.test:5000/deploy/"], Known::TokenFile(files.write("deploy", TOKEN))),
        ];
        let options = Options { tls: Some(tls), ..Options::default() };
        Self { setting: Setting::with(callers, options).await, authority, _files: files }
    }

    async fn client(&self, names: &[&str]) -> RegistryServiceClient<Channel> {
        let (certificate, key) = issue(&self.authority, names);
        let tls = ClientTlsConfig::new()
            .domain_name("rexd.test")
            .ca_certificate(Certificate::from_pem(self.authority.pem()))
            .identity(Identity::from_pem(certificate, key));
        let address = format!("https://{}", self.setting.service.address);
        let endpoint = Endpoint::from_shared(address).unwrap().tls_config(tls).unwrap();
        RegistryServiceClient::new(endpoint.connect().await.unwrap())
    }

    /// The code and the reason of a read of a repository below `prefix`.
    async fn read(&self, names: &[&str], authorization: &str, prefix: &str) -> (Code, String) {
        let call = Call::tags(REGISTRY, &format!("{prefix}/app"));
        match call.outcome_as(&mut self.client(names).await, authorization).await {
            Ok(()) => (Code::Ok, String::new()),
            Err(status) => (status.code(), Failure::of(status).reason),
        }
    }
}

fn ok() -> (Code, String) {
    (Code::Ok, String::new())
}

fn unknown() -> (Code, String) {
    (Code::Unauthenticated, "CALLER_UNKNOWN".to_owned())
}

fn not_allowed() -> (Code, String) {
    (Code::PermissionDenied, "CALLER_NOT_ALLOWED".to_owned())
}

#[tokio::test]
async fn a_certificate_identifies_its_caller_by_a_uri_or_a_dns_name() {
    let tls = Tls::new().await;
    for names in [&[SPIFFE][..], &["build.internal"], &["other.internal", "build.internal"]] {
        assert_eq!(tls.read(names, "", "build").await, ok(), "{names:?}");
        assert_eq!(tls.read(names, "", "release").await, not_allowed(), "{names:?}");
    }
}

#[tokio::test]
async fn a_trusted_certificate_without_a_known_name_is_refused() {
    let tls = Tls::new().await;
    for names in [
        &["other.internal"][..],
        &["sub.build.internal"],
        &["build.internal.example.com"],
        &["*.internal"],
        &["spiffe://cluster.local/ns/ci/sa/build2"],
    ] {
        assert_eq!(tls.read(names, "", "build").await, unknown(), "{names:?}");
    }
}

#[tokio::test]
async fn a_certificate_with_names_of_two_callers_is_refused() {
    let tls = Tls::new().await;
    assert_eq!(tls.read(&["build.internal", "release.internal"], "", "build").await, unknown());
}

#[tokio::test]
async fn a_token_takes_precedence_over_the_certificate() {
    let tls = Tls::new().await;
    let token = format!("Bearer {TOKEN}");
    assert_eq!(tls.read(&["build.internal"], &token, "deploy").await, ok());
    assert_eq!(tls.read(&["build.internal"], &token, "build").await, not_allowed());
    assert_eq!(tls.read(&["build.internal"], "Bearer wrong-token-0123456789", "build").await, unknown());
}
