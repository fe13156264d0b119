//! Challenges, from `WWW-Authenticate` (RFC 9110 section 11.6.1, Docker token authentication specification).

use http::{HeaderMap, header::WWW_AUTHENTICATE};
use http_auth::parse_challenges;
use url::Url;

/// Longer values are ignored. Real challenges have a few hundred bytes.
const MAX_BYTES: usize = 4096;

/// The authentication scheme that a registry requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthScheme {
    /// None: the registry responds without authentication.
    None,
    /// A user name and a password.
    Basic,
    /// A token from the registry's token service.
    Bearer,
}

/// A challenge of a scheme that the service knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer(Realm),
}

/// A token service. The challenge's `scope` is not kept: GHCR and others send a placeholder, so the scope always comes from
/// the operation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Realm {
    pub(super) url: Url,
    pub(super) service: Option<String>,
}

impl Challenge {
    pub(crate) fn scheme(&self) -> AuthScheme {
        match self {
            Self::Basic => AuthScheme::Basic,
            Self::Bearer(_) => AuthScheme::Bearer,
        }
    }

    /// The challenges of a response, in order, over all header lines. Challenges that cannot be parsed are ignored.
    pub(super) fn parse_all(headers: &HeaderMap) -> Vec<Self> {
        headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .filter(|value| value.len() <= MAX_BYTES)
            .filter_map(|value| parse_challenges(value).ok())
            .flatten()
            .filter_map(|challenge| Self::of(&challenge))
            .collect()
    }

    /// The challenge to meet. Bearer is preferred, because Basic would send the password with every request.
    pub(crate) fn preferred(headers: &HeaderMap) -> Option<Self> {
        let mut offered = Self::parse_all(headers);
        let bearer = offered.iter().position(|challenge| matches!(challenge, Self::Bearer(_)));
        (!offered.is_empty()).then(|| offered.swap_remove(bearer.unwrap_or(0)))
    }

    fn of(challenge: &http_auth::ChallengeRef<'_>) -> Option<Self> {
        let param = |name: &str| {
            let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        if challenge.scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !challenge.scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut url = Url::parse(&param("realm")?).ok()?;
        // A realm with userinfo is refused, and a fragment is never sent.
        url.set_fragment(None);
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some()
        {
            return None;
        }
        Some(Self::Bearer(Realm { url, service: param("service").filter(|service| !service.is_empty()) }))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn of(lines: &[&str]) -> Vec<Challenge> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, line.parse().unwrap());
        }
        Challenge::parse_all(&headers)
    }

    fn bearer(url: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer(Realm { url: Url::parse(url).unwrap(), service: service.map(str::to_owned) })
    }

    #[test]
    fn challenges_are_parsed_from_one_line_or_many() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b:c""#;
        let token = bearer("https://auth.docker.io/token", Some("registry.docker.io"));
        assert_eq!(of(&[hub]), std::slice::from_ref(&token));
        assert_eq!(of(&["Basic realm=\"r\"", hub]), [Challenge::Basic, token.clone()]);
        assert_eq!(of(&[&format!("{hub}, Basic realm=\"r\"")]), [token, Challenge::Basic]);
        assert_eq!(of(&["bEaReR rEaLm=\"https://r/t\""]), [bearer("https://r/t", None)]);
    }

    #[test]
    fn a_challenge_that_cannot_be_met_is_ignored() {
        let long = format!("Bearer realm=\"https://r/{}\"", "x".repeat(MAX_BYTES));
        for line in [
            "",
            "Bearer",
            "Bearer realm=\"\"",
            "Bearer realm=\"/token\"",
            "Bearer realm=\"file:///etc/passwd\"",
            "Bearer realm=\"https://user:pass@r/t\"",
            "Negotiate abc=def",
            "Bearer realm=\"unterminated",
            &long,
        ] {
            assert_eq!(of(&[line]), [], "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_causes_a_panic(bytes in proptest::collection::vec(0x20u8..=0xff, 0..200)) {
            let mut headers = HeaderMap::new();
            headers.insert(WWW_AUTHENTICATE, http::HeaderValue::from_bytes(&bytes).unwrap_or(http::HeaderValue::from_static("")));
            let _ = Challenge::parse_all(&headers);
        }

        #[test]
        fn a_realm_is_always_http_without_userinfo(realm in ".{0,40}", service in ".{0,20}") {
            let mut headers = HeaderMap::new();
            let line = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
            headers.insert(WWW_AUTHENTICATE, http::HeaderValue::from_str(&line).unwrap_or(http::HeaderValue::from_static("")));
            for challenge in Challenge::parse_all(&headers) {
                if let Challenge::Bearer(realm) = challenge {
                    proptest::prop_assert!(matches!(realm.url.scheme(), "http" | "https"));
                    proptest::prop_assert!(realm.url.username().is_empty() && realm.url.password().is_none());
                }
            }
        }
    }
}
