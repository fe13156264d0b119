//! Compiles the API's `.proto` with protox, so that no machine needs `protoc`, and keeps the descriptor set for server
//! reflection.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_file("rex/registry/v1/registry.proto")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("registry_descriptor.bin"), compiler.encode_file_descriptor_set())?;
    // `bytes` fields become `Bytes`: a manifest or a chunk is handed on, not copied.
    tonic_prost_build::configure().bytes(".").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
