//! Generates the client's code from the API's `.proto`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../../proto");
    let files = protox::compile(["rex/registry/v1/registry.proto"], ["../../../proto"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(files)?;
    Ok(())
}
