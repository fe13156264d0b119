//! Checks the layers of `src/`: what each module may name of this crate, and of other crates.
//!
//! The compiler would let every module import every other one. This test is what separate crates would give: an import
//! that points up, or a second user of reqwest, fails here (as pkg/registry/depcheck_test.go does in
//! google/go-containerregistry).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "layers/circles.rs"]
mod circles;
#[path = "layers/paths.rs"]
mod paths;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// An area of `src/`, the areas of this crate that it may name besides itself, and the crates that it must not name. A
/// crate stands for all whose name continues with `_` (`tonic_types`).
type Rule = (&'static str, &'static [&'static str], &'static [&'static str]);

const NO_IO: &[&str] = &["reqwest", "tonic", "prost", "tokio", "hyper", "futures_util"];
const NO_GRPC: &[&str] = &["reqwest", "tonic", "prost"];
/// What every part of the uppermost layer may name; `cli` wires the parts to each other.
const BELOW: &[&str] = &["client", "policy", "oci", "error", "memory"];
/// What records calls.
const MEASURED: &[&str] = &["client", "policy", "oci", "error", "memory", "metrics"];
/// The handlers also log their calls and set a watchdog for a stream. `telemetry` and `server` know nothing of them.
const HANDLERS: &[&str] =
    &["callers", "reads", "client", "policy", "oci", "error", "memory", "telemetry", "server"];
const PARTS: &[&str] = &[
    "callers",
    "client",
    "config",
    "demo",
    "error",
    "grpc",
    "memory",
    "metrics",
    "oci",
    "policy",
    "reads",
    "server",
    "telemetry",
];

/// Top down. An area without a rule fails the test.
const RULES: &[Rule] = &[
    ("main", &["cli"], NO_GRPC),
    ("lib", &["error"], NO_GRPC),
    ("cli", PARTS, &["reqwest"]),
    ("config", &["reads", "client", "policy", "oci", "error", "memory"], &["reqwest"]),
    ("telemetry", MEASURED, &["reqwest"]),
    ("server", BELOW, &["reqwest"]),
    ("grpc", HANDLERS, &["reqwest"]),
    ("callers", &["policy", "error", "reloaded_file"], NO_GRPC),
    ("policy", &["oci", "error"], NO_IO),
    ("reads", &["client", "oci", "error", "memory", "reloaded_file", "secret"], NO_GRPC),
    ("client", &["upstream", "auth", "http", "oci", "error", "memory"], NO_GRPC),
    ("upstream", &["auth", "http", "oci", "error"], NO_GRPC),
    ("auth", &["http", "oci", "error", "reloaded_file", "secret"], NO_GRPC),
    ("http", &["oci", "error", "memory", "metrics", "secret"], &["tonic", "prost"]),
    ("oci", &[], NO_IO),
    ("error", &[], NO_IO),
    ("memory", &["error"], NO_IO),
    ("metrics", &[], NO_GRPC),
    ("reloaded_file", &[], NO_GRPC),
    ("secret", &[], NO_IO),
    ("demo", &[], NO_GRPC),
];

/// The violations in a file's text, each with its line.
fn violations(module: &[String], text: &str) -> Vec<String> {
    let area = module.first().unwrap();
    let Some((_, ours, never)) = RULES.iter().find(|(name, ..)| name == area) else {
        return vec![format!("{area} has no rule in tests/layers.rs")];
    };
    let mut found = Vec::new();
    for path in paths::of(module, text) {
        let at = format!("line {}: {area} names {}", path.line, path.segments.join("::"));
        let first = path.segments.first().map(String::as_str).unwrap_or("*");
        if path.is_ours {
            // The root of the crate re-exports one type.
            let target = if first == "RexError" { "error" } else { first };
            if target != area && !ours.contains(&target) {
                found.push(at);
            }
        } else if never.iter().any(|name| is_crate(first, name)) {
            found.push(at);
        }
    }
    found
}

fn is_crate(segment: &str, name: &str) -> bool {
    segment.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// Every source file: its path, its module's path, its text.
fn sources() -> Vec<(PathBuf, Vec<String>, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inner = path.strip_prefix(&root).unwrap().with_extension("");
                let mut module: Vec<String> =
                    inner.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
                module.pop_if(|last| last == "mod");
                // `#[path = "x_tests.rs"] mod tests;` within `x`.
                if let Some(tested) = module.last().and_then(|last| last.strip_suffix("_tests")) {
                    let inner = [tested.to_owned(), "tests".to_owned()];
                    module.pop();
                    module.extend(inner);
                }
                files.push((path.clone(), module, fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(files.len() > 50, "only {} files found", files.len());
    files
}

#[test]
fn no_import_breaks_the_layers() {
    let broken: Vec<String> = sources()
        .iter()
        .flat_map(|(path, module, text)| {
            violations(module, text).into_iter().map(move |problem| format!("{}: {problem}", path.display()))
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_reader_finds_the_uses_of_reqwest_in_http() {
    let uses = sources()
        .iter()
        .filter(|(_, module, _)| module.first().is_some_and(|area| area == "http"))
        .flat_map(|(_, module, text)| paths::of(module, text))
        .filter(|path| path.segments.first().is_some_and(|first| first == "reqwest"))
        .count();
    assert!(uses > 5, "{uses}");
}

#[test]
fn no_file_of_src_has_more_than_350_lines() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(path, _, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > 350)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn no_imports_between_files_form_a_circle() {
    let files: Vec<(Vec<String>, String)> =
        sources().into_iter().map(|(_, module, text)| (module, text)).collect();
    let found = circles::of(&files);
    assert!(found.is_empty(), "files that import each other:\n{}", found.join("\n"));
}

#[test]
fn a_planted_circle_is_found() {
    let file = |module: &str, text: &str| {
        (module.split("::").map(str::to_owned).collect::<Vec<_>>(), text.to_owned())
    };
    let circle = |texts: &[(&str, &str)]| {
        circles::of(&texts.iter().map(|(module, text)| file(module, text)).collect::<Vec<_>>()).len()
    };
    // Siblings, a child and the file above it, three files, and through a re-export.
    assert_eq!(
        circle(&[("x", "mod a;\nmod b;"), ("x::a", "use super::b::B;"), ("x::b", "use super::a::A;")]),
        1
    );
    assert_eq!(circle(&[("x", "mod a;\nuse a::A;\nstruct S;"), ("x::a", "use super::S;")]), 1);
    assert_eq!(circle(&[("a", "use crate::b::B;"), ("b", "use crate::c::C;"), ("c", "use crate::a::A;")]), 1);
    assert_eq!(
        circle(&[("x", "mod a;\npub use a::A;"), ("x::a", "use crate::y::Y;"), ("y", "use crate::x::A;")]),
        1
    );
    // Modules that only declare and re-export, and a child that uses an item of the file above it, are no circle.
    assert_eq!(circle(&[("x", "mod a;\nmod b;\npub use a::A;"), ("x::a", ""), ("x::b", "use super::A;")]), 0);
    assert_eq!(circle(&[("x", "mod a;\npub struct S;"), ("x::a", "use super::S;")]), 0);
}

/// The maximum number of files in a folder, without tests. A folder with more describes each file in its `mod.rs`.
#[test]
fn no_folder_is_a_long_flat_list_without_a_map() {
    let mut folders = std::collections::BTreeMap::<PathBuf, Vec<PathBuf>>::new();
    for (path, module, _) in sources() {
        if module.last().is_none_or(|last| last != "tests") {
            folders.entry(path.parent().unwrap().to_owned()).or_default().push(path);
        }
    }
    for (folder, files) in folders {
        let map = fs::read_to_string(folder.join("mod.rs")).unwrap_or_default();
        let unlisted: Vec<_> = files
            .iter()
            .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
            .filter(|name| name != "mod")
            .filter(|name| {
                !map.lines().any(|line| line.starts_with("//!") && line.contains(&format!("`{name}`")))
            })
            .collect();
        assert!(
            files.len() <= 11 || unlisted.is_empty(),
            "{} has {} files, and its documentation does not say what these are for: {unlisted:?}",
            folder.display(),
            files.len()
        );
    }
}

fn violations_in(module: &str, text: &str) -> usize {
    let module: Vec<String> = module.split("::").map(str::to_owned).collect();
    violations(&module, text).len()
}

#[test]
fn planted_violations_are_found() {
    for (module, text) in [
        ("client::blob", "use tonic::Status;"),
        ("client::blob", "use prost_types::Duration;"),
        ("client::blob", "use {bytes::Bytes, ::tonic_types::StatusExt as _};"),
        ("client::blob", "use crate::{error::RexError, grpc::{proto, StreamLimits}};"),
        ("client::blob", "use crate::{\n    config,\n    error::{At, RexError},\n};"),
        ("client::blob", "fn f() -> Result<(), reqwest::Error> { todo!() }"),
        ("client::blob", "fn f(x: &crate::config::Config) {}"),
        ("client::blob", "use super::super::server::Server;"),
        ("client", "pub use super::policy::Policy;"),
        ("client", "mod tests { use super::super::telemetry; }"),
        ("http::retry", "use crate::client::Client;"),
        ("http::retry", "use crate::auth::Scope;"),
        ("auth::sign_in", "use crate::upstream::Upstream;"),
        ("auth::token", "use reqwest::Url;"),
        ("http", "use crate as everything;"),
        ("http", "use crate::*;"),
        ("oci::digest", "use crate::error::RexError;"),
        ("oci::digest", "use crate::RexError;"),
        ("oci", "use tokio::sync::Mutex;"),
        ("error", "impl From<::reqwest::Error> for RexError {}"),
        ("grpc::frame", "let url = reqwest::Url::parse(\"\");"),
        ("grpc", "use reqwest;"),
        ("grpc", "extern crate reqwest;"),
        ("grpc::convert", "use crate::upstream::Upstream;"),
        ("server", "use crate::config::Config;"),
        ("config::load", "use reqwest::{Client as Http, redirect};"),
        ("telemetry", "let x = /* a comment */ reqwest /* another */ :: get;"),
        ("demo::routes", "use crate::oci::Digest;"),
        ("surprise", "use std::fmt;"),
    ] {
        assert!(violations_in(module, text) > 0, "{module}: {text}");
    }
}

#[test]
fn allowed_imports_and_text_that_looks_like_an_import_pass() {
    for (module, text) in [
        ("client::blob", "use crate::{error::{At, RexError}, oci, http::Response};"),
        ("client::blob", "use super::{Client, endpoint};\nuse crate::RexError;"),
        ("client::blob", "// use tonic::Status;\n/* use /* nested */ reqwest::Client; */"),
        ("client::blob", "/// As [`crate::grpc::proto`] and reqwest::Client say.\nfn f() {}"),
        ("client::blob", r##"const A: &str = "use tonic::Status"; const B: &str = r#"crate::"grpc"#;"##),
        ("client::blob", "fn f<'a>(x: &'a str) -> char { '\"' } // tonic::x \"\nfn g() -> char { '\\'' }"),
        ("client::blob", "mod tests { use super::super::endpoint; use super::*; }"),
        ("client", "pub(crate) fn f() {}\npub(in crate::client) fn g() {}"),
        ("client", "let x = settings.tonic; tonical::f(); my::tonic::f();"),
        ("http", "use reqwest::dns::{Addrs, Name};"),
        ("main", "fn main() { rexd::cli::main() }"),
    ] {
        assert_eq!(violations_in(module, text), 0, "{module}: {text}");
    }
}
