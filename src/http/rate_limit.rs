//! How many requests a registry's rate limit still allows: Docker Hub's `RateLimit-Remaining`, in the form of
//! draft-ietf-httpapi-ratelimit-headers-01, `76;w=21600`. The number is sometimes missing (`;w=21600`, docker/hub-feedback#2081).

use http::HeaderMap;

/// Below this number, the log has a warning.
const FEW: u64 = 10;

/// Logs how many requests are left, with a warning when they are few.
pub(super) fn note(registry: &str, headers: &HeaderMap) {
    let Some(remaining) = remaining(headers) else { return };
    if remaining < FEW {
        tracing::warn!(registry, remaining, "the registry allows few more requests");
    } else {
        tracing::debug!(registry, remaining, "the registry has a rate limit");
    }
}

fn remaining(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get("ratelimit-remaining")?.to_str().ok()?;
    value.split(';').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_malformed_value_is_ignored() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("ratelimit-remaining", value.parse().unwrap());
            remaining(&headers)
        };
        assert_eq!(of("76;w=21600"), Some(76));
        assert_eq!(of(" 0 "), Some(0));
        for nothing in ["", ";w=21600", "many;w=1", "-1", "99999999999999999999999"] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
        assert_eq!(remaining(&HeaderMap::new()), None);
    }
}
