//! The queries that a page of a list is requested with: which parameters they may have.
//!
//! A registry's `Link` has the query of the next page, and a page token carries it to the next call. A token is not signed,
//! because any replica serves the next page and replicas share no key. So a caller can write a token with any query. The same
//! rule therefore applies to tokens and to `Link`: every parameter must be one that chooses a part of the list. A caller that
//! forges such a parameter reads another part of a list that it may read anyway. Other parameters can do more: `ns` makes a
//! registry that is a mirror request another registry.

use url::form_urlencoded;

/// The page size, whose value is limited too.
const SIZE: &str = "n";

/// The parameters that choose a part of a list. `n` and `last` are those of the OCI Distribution Specification ("Listing
/// Tags"); distribution, ECR, GHCR, ACR, Artifactory and Harbor use them. Quay has used `next_page` (deitch/docker_registry2#56),
/// and ACR adds `orderby`. The others are the usual names of cursors and offsets. Names compare byte by byte.
const KNOWN: [&str; 17] = [
    SIZE,
    "last",
    "next_page",
    "orderby",
    "after",
    "continuation_token",
    "continuationToken",
    "cursor",
    "marker",
    "nextPageToken",
    "next_page_token",
    "nextToken",
    "next_token",
    "offset",
    "page",
    "page_token",
    "start",
];

/// The parameter with which a mirror is told the upstream registry (containerd, docs/hosts.md). The configuration cannot allow it.
const MIRRORED_REGISTRY: &str = "ns";

/// The longest name that an error shows.
const MAX_SHOWN: usize = 32;

/// ECR and ACR refuse larger pages.
pub(super) const MAX_PAGE_SIZE: usize = 1000;

/// Checks that every parameter of a query is known or in `configured`, and that none is repeated. The error continues a
/// sentence: "the Link …".
pub(super) fn check(query: &str, configured: &[String]) -> Result<(), String> {
    let mut seen = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        // Some servers separate parameters at a semicolon as well, as HTML 4.01 recommended (appendix B.2.2).
        if pair.contains(';') {
            return Err("has a semicolon in its query".to_owned());
        }
        let Some((name, _)) = pair.split_once('=') else {
            return Err("has a parameter without a value".to_owned());
        };
        if name.eq_ignore_ascii_case(MIRRORED_REGISTRY) {
            return Err("has the parameter ns, which does not choose a page".to_owned());
        }
        // The name is compared as it was sent. So a name with percent-encoding is never a known one.
        if !KNOWN.contains(&name) && !configured.iter().any(|configured| configured == name) {
            let name = display_name(name);
            return Err(format!(
                "has the parameter {name}, which is not known to choose a page; the operator can add such a parameter to \
                 page_parameters of the registry"
            ));
        }
        if seen.contains(&name) {
            return Err(format!("repeats the parameter {}", display_name(name)));
        }
        seen.push(name);
    }
    Ok(())
}

/// The name for an error message. Only a short plain word is display_name.
fn display_name(name: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !name.is_empty() && name.len() <= MAX_SHOWN && name.bytes().all(plain) {
        name
    } else {
        "(no plain word)"
    }
}

/// Limits `n` in a query, which a registry or a forged token may have chosen (CVE-2023-2253).
pub(super) fn clamp_n(query: &str) -> String {
    let too_many = |value: &str| value.parse::<usize>().map_or(true, |n| n > MAX_PAGE_SIZE);
    if !form_urlencoded::parse(query.as_bytes()).any(|(name, value)| name == SIZE && too_many(&value)) {
        return query.to_owned();
    }
    let mut clamped = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let over = name == SIZE && too_many(&value);
        clamped.append_pair(&name, if over { "1000" } else { &value });
    }
    clamped.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_adds_parameters_but_never_the_one_that_names_another_registry() {
        let configured = ["from".to_owned(), "ns".to_owned(), "NS".to_owned()];
        assert_eq!(check("from=a&n=2", &configured), Ok(()));
        for query in ["from=a", "ns=a", "NS=a"] {
            assert!(check(query, &[]).is_err(), "{query}");
        }
        for query in ["ns=a", "NS=a", "Ns=a", "from=a&from=b"] {
            assert!(check(query, &configured).is_err(), "{query}");
        }
    }

    #[test]
    fn an_error_shows_a_name_only_if_it_is_a_plain_word() {
        for query in ["a\r\nb=1", "<b>=1", "=1", "%6es=1", &format!("{}=1", "a".repeat(33))] {
            let outcome = check(query, &[]);
            assert!(
                outcome.as_ref().is_err_and(|problem| problem.contains("(no plain word)")),
                "{outcome:?}"
            );
        }
        assert!(check("secret", &[]).is_err_and(|problem| !problem.contains("secret")));
    }

    proptest::proptest! {
        /// A parser of the URL Standard finds only known names in a query that passes.
        #[test]
        fn no_query_that_passes_has_another_parameter(query in "[a-z%0-9&=;+ \t_]{0,20}|(n|last|ns|%6es)=[a-z%0-9&=;+]{0,20}") {
            if check(&query, &[]).is_ok() {
                for (name, _) in form_urlencoded::parse(query.as_bytes()) {
                    proptest::prop_assert!(KNOWN.contains(&name.as_ref()), "{query}");
                }
            }
        }
    }
}
