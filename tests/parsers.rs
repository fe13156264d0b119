//! Everything that parses text from outside: no input makes it panic, and an accepted name is the text as given.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use rexd::{
    client::{Listing, Origin, PageToken, Target},
    oci::{Digest, Platform, Reference, Registry, Repository},
};

fn listing() -> Listing {
    Listing::Tags(Target { registry: "r.example".parse().unwrap(), repository: "org/app".parse().unwrap() })
}

proptest! {
    #[test]
    fn names_are_accepted_unchanged_or_refused(text in ".{0,80}|[a-zA-Z0-9._:/@-]{0,80}") {
        if let Ok(repository) = text.parse::<Repository>() {
            prop_assert_eq!(repository.as_str(), &text);
            prop_assert!(!text.contains("..") && !text.contains("//") && !text.contains('%'));
        }
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.as_str(), &text);
            prop_assert!(!text.contains('/'));
        }
        if let Ok(digest) = text.parse::<Digest>() {
            prop_assert_eq!(digest.as_str(), &text);
        }
        if let Ok(registry) = text.parse::<Registry>() {
            prop_assert!(!registry.as_str().contains(['/', '@', '%']) && registry.as_str() == registry.as_str().to_lowercase());
        }
        let _ = text.parse::<Platform>();
        let _ = text.parse::<Origin>();
    }

    #[test]
    fn names_of_the_grammar_are_accepted(name in "[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}(/[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}){0,3}") {
        prop_assert!(name.parse::<Repository>().is_ok());
    }

    #[test]
    fn no_page_token_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,100}") {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        prop_assert!(PageToken::decode(&text, &listing()).is_err());
        prop_assert!(PageToken::decode(&URL_SAFE_NO_PAD.encode(bytes), &listing()).is_err());
    }
}

#[test]
fn an_origin_is_scheme_host_and_port_and_nothing_else() {
    for origin in ["https://auth.internal", "http://127.0.0.1:5000", "https://[::1]:5000/"] {
        assert!(origin.parse::<Origin>().is_ok(), "{origin}");
    }
    for other in
        ["auth.internal", "ftp://a", "https://a/b", "https://a?b", "https://u:p@a", "https://a#b", ""]
    {
        assert!(other.parse::<Origin>().is_err(), "{other}");
    }
}
