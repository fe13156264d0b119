//! Compiles the API's `.proto` with protox, so that no machine needs `protoc`, and keeps the descriptor set for server
//! reflection. Lists the crates of the binary with their licences, for `rexd licenses`.

use std::{collections::BTreeSet, env, error::Error, fs, path::PathBuf, process::Command};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=Cargo.lock");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("licenses.txt"), licenses()?)?;
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_file("rex/registry/v1/registry.proto")?;
    fs::write(out.join("registry_descriptor.bin"), compiler.encode_file_descriptor_set())?;
    // `bytes` fields become `Bytes`: a manifest or a chunk is handed on, not copied.
    tonic_prost_build::configure().bytes(".").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// `name version: licence`, one crate a line: every crate that this build links for its target and features. Crates that run
/// only at build time are left out, procedural macros among them.
///
/// `cargo tree` takes a fraction of a second and needs no crate that the build itself does not need. `cargo metadata` would also
/// need those of the tests, which are not there when the image is built.
fn licenses() -> Result<String, Box<dyn Error>> {
    let features: Vec<_> = env::vars()
        .filter_map(|(name, _)| name.strip_prefix("CARGO_FEATURE_").map(str::to_lowercase))
        .map(|feature| feature.replace('_', "-"))
        .collect();
    let output = Command::new(env::var("CARGO")?)
        .args(["tree", "--quiet", "--locked", "--offline", "--edges", "normal,no-proc-macro"])
        .args(["--prefix", "none", "--format", "{p}\t{l}", "--target", &env::var("TARGET")?])
        .args(["--no-default-features", "--features", &features.join(",")])
        // What wraps the compiler of this build, such as clippy, has no part in this.
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let mut crates = BTreeSet::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        // `rexd v0.1.0 (/path)`, and ` (*)` after the licence of a crate that was printed before.
        let (package, licence) = line.split_once('\t').ok_or("cargo tree printed another format")?;
        let mut words = package.split(' ');
        let (name, version) = (words.next(), words.next().and_then(|version| version.strip_prefix('v')));
        let (name, version) = name.zip(version).ok_or("cargo tree printed another format")?;
        crates.insert(format!("{name} {version}: {}\n", licence.trim_end_matches(" (*)")));
    }
    Ok(crates.into_iter().collect())
}
