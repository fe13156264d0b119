#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use super::{super::resolver::filter, *};

fn class(address: &str) -> AddressClass {
    AddressClass::of(address.parse().unwrap())
}

#[test]
fn an_address_that_embeds_another_has_the_class_of_that_one() {
    use AddressClass::{Metadata, Private, Public};
    let table = [
        (
            Public,
            &["1.1.1.1", "100.63.0.1", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "::ffff:8.8.8.8"][..],
        ),
        (Public, &["64:ff9b::808:808", "2002:808:808::1"]),
        (
            Private,
            &["127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "100.64.0.1"],
        ),
        (Private, &["224.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1", "203.0.113.9", "240.0.0.1"]),
        (Private, &["::", "::1", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "2001::1"]),
        (Private, &["::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1", "::ffff:0:10.0.0.1"]),
        (
            Metadata,
            &[
                "169.254.169.254",
                "169.254.170.2",
                "100.100.100.200",
                "168.63.129.16",
                "fd00:ec2::254",
                "fd20:ce::254",
            ],
        ),
        (Metadata, &["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"]),
    ];
    for (expected, addresses) in table {
        for address in addresses {
            assert_eq!(class(address), expected, "{address}");
        }
    }
}

fn guard(listed: bool) -> Guard {
    Guard::new(
        "https://registry.example".parse().unwrap(),
        listed,
        vec!["https://auth.internal".parse().unwrap()],
        vec!["https://10.0.0.9:9000".parse().unwrap()],
    )
}

#[test]
fn unusual_spellings_of_a_literal_address_are_refused() {
    let literals = [
        "https://2130706433/",
        "https://127.1/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://0.0.0.0/",
        "https://169.254.169.254/",
        "https://[::1]/",
        "https://①②⑦.0.0.1/",
    ];
    for literal in literals {
        assert!(guard(true).admit(&Url::parse(literal).unwrap()).is_err(), "{literal}");
    }
}

#[test]
fn a_metadata_address_is_refused_even_when_the_configuration_names_it() {
    let guard = Guard::new("http://169.254.169.254".parse().unwrap(), true, vec![], vec![]);
    assert!(guard.admit(&Url::parse("http://169.254.169.254/v2/").unwrap()).is_err());
    let addresses = ["169.254.169.254:0".parse().unwrap()].into_iter();
    assert!(filter("metadata.example", addresses, true).is_err());
}

#[test]
fn only_exactly_the_configured_origins_may_be_private() {
    let admit = |url: &str| guard(true).admit(&Url::parse(url).unwrap());
    assert_eq!(admit("https://registry.example/v2/"), Ok(Trust::Registry));
    assert_eq!(guard(false).admit(&Url::parse("https://registry.example/v2/").unwrap()), Ok(Trust::Public));
    assert_eq!(admit("https://auth.internal/token"), Ok(Trust::Configured));
    assert_eq!(admit("https://10.0.0.9:9000/blob"), Ok(Trust::Configured));
    assert!(admit("https://10.0.0.9:9001/blob").is_err(), "another port");
    assert!(admit("http://10.0.0.9:9000/blob").is_err(), "another scheme");
    assert_eq!(admit("https://cdn.example/blob"), Ok(Trust::Public));
    assert!(admit("http://cdn.example/blob").is_err(), "plain http");
    assert!(admit("ftp://cdn.example/blob").is_err());
}

#[test]
fn only_the_registry_and_its_token_realms_may_receive_credentials() {
    let may = |url: &str| guard(true).may_receive_credentials(&Url::parse(url).unwrap());
    assert!(may("https://registry.example/token"));
    assert!(may("https://auth.internal/token"));
    for url in [
        "https://registry.example:444/token",
        "http://registry.example/token",
        "https://evil.registry.example/token",
        "https://registry.example.evil/token",
        "https://10.0.0.9:9000/token",
    ] {
        assert!(!may(url), "{url}");
    }
}

#[test]
fn private_addresses_are_dropped_from_a_dns_response() {
    let addresses = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<SocketAddr>>();
    let mixed = addresses(&["127.0.0.1:0", "1.1.1.1:0", "[fd00::1]:0"]);
    assert_eq!(filter("cdn.example", mixed.into_iter(), false).unwrap(), addresses(&["1.1.1.1:0"]));
    assert!(filter("cdn.example", addresses(&["192.168.0.1:0"]).into_iter(), false).is_err());
    assert_eq!(
        filter("r.internal", addresses(&["10.0.0.1:0"]).into_iter(), true).unwrap(),
        addresses(&["10.0.0.1:0"])
    );
}
