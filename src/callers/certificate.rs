//! The names in a client certificate: DNS names and URIs (SPIFFE IDs among them) of its subject alternative names (RFC 5280,
//! section 4.2.1.6). The subject's common name is not used: RFC 9525 removed it.
//!
//! A URI that looks like a DNS name is ignored: a certificate authority that is restricted to some DNS names may still
//! issue any URI, and nothing checks a URI's form.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The names in the certificate. A certificate that cannot be parsed has none; the listener refuses such certificates.
pub(super) fn names<'a>(certificate: &'a CertificateDer<'static>) -> Vec<&'a str> {
    match EndEntityCert::try_from(certificate) {
        Ok(certificate) => {
            let uris = certificate.valid_uri_names().filter(|uri| is_uri(uri));
            certificate.valid_dns_names().chain(uris).collect()
        }
        Err(_) => Vec::new(),
    }
}

/// Whether the text is a URI and not a DNS name.
fn is_uri(text: &str) -> bool {
    text.contains("://") && url::Url::parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn dns_names_and_uris_are_used_and_the_common_name_is_not() {
        let mut params = CertificateParams::new(["build.internal".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "admin");
        let spiffe = "spiffe://cluster.local/ns/ci/sa/build";
        params.subject_alt_names.push(SanType::URI(spiffe.try_into().unwrap()));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(names(certificate.der()), ["build.internal", spiffe]);
    }

    #[test]
    fn a_dns_name_in_a_uri_field_is_ignored() {
        let mut params = CertificateParams::new(["a.internal".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("deploy.internal".try_into().unwrap()));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(names(certificate.der()), ["a.internal"]);
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_names() {
        assert!(names(&CertificateDer::from(vec![0x30, 0x82, 0xff, 0xff, 0])).is_empty());
    }
}
