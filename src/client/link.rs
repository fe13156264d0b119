//! The `Link` header (RFC 8288), as far as pagination needs it: the query of the target whose relation is `next`.
//!
//! Only the query is used. A registry must not choose the host and path that its credentials go to next (CVE-2026-85732).

use http::{HeaderMap, header::LINK};

/// Longer headers are refused. Quay's and ECR's cursors have a few hundred bytes.
const MAX_BYTES: usize = 8192;

/// The next page, according to the registry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// There is none.
    End,
    /// Its query.
    Query(String),
    /// There is one, but its link cannot be used.
    Unusable,
}

/// Reads all `Link` headers.
pub(super) fn next(headers: &HeaderMap) -> Next {
    for value in headers.get_all(LINK) {
        let Ok(value) = value.to_str() else {
            return Next::Unusable;
        };
        if value.len() > MAX_BYTES {
            return Next::Unusable;
        }
        if let Some(target) = next_target(value) {
            let target = target.split('#').next().unwrap_or_default();
            return match target.split_once('?') {
                Some((_, query)) if !query.is_empty() => Next::Query(query.to_owned()),
                _ => Next::Unusable,
            };
        }
    }
    Next::End
}

/// The target of the first link-value with `rel=next`.
fn next_target(mut rest: &str) -> Option<&str> {
    while let Some((_, after)) = rest.split_once('<') {
        let (target, after) = after.split_once('>')?;
        let (parameters, after) = split_parameters(after);
        if parameters.split(';').any(is_next) {
            return Some(target);
        }
        rest = after;
    }
    None
}

/// Parameters reach to the next comma outside quotes.
fn split_parameters(text: &str) -> (&str, &str) {
    let mut quoted = false;
    for (at, character) in text.char_indices() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => return text.split_at(at),
            _ => {}
        }
    }
    (text, "")
}

fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return false;
    };
    let relations = value.trim().trim_matches('"');
    name.trim().eq_ignore_ascii_case("rel")
        && relations.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn of(value: &str) -> Next {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, value.parse().unwrap());
        next(&headers)
    }

    #[test]
    fn only_the_query_of_the_next_link_is_read() {
        let query = |text: &str| Next::Query(text.to_owned());
        for value in [
            r#"</v2/_catalog?last=b&n=2>; rel="next""#,
            "</v2/_catalog?last=b&n=2>;rel=next",
            r#"<https://evil.example/steal?last=b&n=2>; rel="next""#,
            r#"</x?y>; rel="prev", </v2/_catalog?last=b&n=2>; title="a,b;c"; REL="start NEXT""#,
            r#"<?last=b&n=2#fragment>; rel="next""#,
        ] {
            assert_eq!(of(value), query("last=b&n=2"), "{value}");
        }
    }

    #[test]
    fn other_relations_mean_the_end_and_an_unusable_next_link_is_reported() {
        assert_eq!(next(&HeaderMap::new()), Next::End);
        for value in ["", "garbage", "</x?a=b>", r#"</x?a=b>; rel="prev""#, "<unclosed; rel=next"] {
            assert_eq!(of(value), Next::End, "{value}");
        }
        let long = format!("</x?{}>; rel=next", "a".repeat(MAX_BYTES));
        for value in ["</v2/_catalog>; rel=next", "<>; rel=next", "</x?>; rel=next", &long] {
            assert_eq!(of(value), Next::Unusable, "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_causes_a_panic(bytes in proptest::collection::vec(0x20u8..=0xff, 0..200)) {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, http::HeaderValue::from_bytes(&bytes).unwrap_or(http::HeaderValue::from_static("")));
            let _ = next(&headers);
        }

        #[test]
        fn a_query_never_reaches_past_its_target(text in "[<>;,=\"?#a-z /]{0,60}") {
            if let Next::Query(query) = of(&text) {
                proptest::prop_assert!(!query.contains(['<', '>', '#']) || text.contains(&query), "{query}");
                proptest::prop_assert!(!query.contains('#'), "{query}");
            }
        }
    }
}
