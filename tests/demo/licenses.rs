//! `rexd licenses` lists what the binary is made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

/// What the command prints: the licence of each crate by name and version.
fn licenses() -> BTreeMap<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_rexd")).arg("licenses").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let crates = text.lines().map(|line| {
        let (package, licence) = line.split_once(": ").unwrap();
        (package.to_owned(), licence.to_owned())
    });
    crates.collect()
}

/// Name and version of every crate that `cargo tree` prints for these kinds of dependencies.
fn tree(edges: &str) -> BTreeSet<String> {
    let features = if cfg!(feature = "jemalloc") { "jemalloc" } else { "" };
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix=none", "--format={p}", "--edges", edges])
        .args(["--features", features, "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let packages = text.lines().map(|line| {
        let mut words = line.split(' ');
        format!("{} {}", words.next().unwrap(), words.next().unwrap().trim_start_matches('v'))
    });
    packages.collect()
}

/// Name and version of every package in `Cargo.lock`.
fn locked() -> BTreeSet<String> {
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    let value = |line: Option<&str>, key| {
        line.and_then(|line| line.strip_prefix(key)?.strip_suffix('"')).unwrap().to_owned()
    };
    let packages = lock.split("[[package]]\n").skip(1).map(|package| {
        let mut lines = package.lines();
        let name = value(lines.next(), "name = \"");
        format!("{name} {}", value(lines.next(), "version = \""))
    });
    packages.collect()
}

#[test]
fn the_licenses_are_those_of_the_dependency_tree_that_is_locked() {
    let listed: BTreeSet<String> = licenses().into_keys().collect();
    assert_eq!(listed, tree("normal,no-proc-macro"));
    let locked = locked();
    assert_eq!(listed.difference(&locked).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(listed.len() > 100, "only {} crates are listed", listed.len());
}

#[test]
fn crates_of_tests_and_builds_alone_are_not_listed() {
    let listed: BTreeSet<String> = licenses().into_keys().map(|package| name(&package)).collect();
    for linked in ["rexd", "tokio", "tonic", "reqwest", "aws-lc-sys", "prost"] {
        assert!(listed.contains(linked), "{linked}");
    }
    for other in
        ["criterion", "proptest", "rstest", "rcgen", "protox", "tonic-prost-build", "serde_derive", "syn"]
    {
        assert!(locked().iter().any(|package| name(package) == other), "{other} is not locked");
        assert!(!listed.contains(other), "{other}");
    }
}

fn name(package: &str) -> String {
    package.split(' ').next().unwrap().to_owned()
}

#[test]
fn every_crate_has_a_licence() {
    let licenses = licenses();
    let without: Vec<_> = licenses.iter().filter(|(_, licence)| licence.is_empty()).collect();
    assert!(without.is_empty(), "{without:?}");
    assert_eq!(licenses[concat!("rexd ", env!("CARGO_PKG_VERSION"))], "Apache-2.0");
}
