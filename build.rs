//! Compiles `proto/` with protox, so that no protoc is needed.

use std::path::PathBuf;
use std::{env, error::Error, fs};

const SERVICES: [&str; 4] = ["credential", "provider", "use", "audit"];

/// Messages that can carry a secret get no derived `Debug`; `grpc/proto.rs` writes them one by hand.
const SECRET_MESSAGES: [&str; 7] = [
    "credvault.v1.IssuedSecret",
    "credvault.v1.CreateCredentialRequest",
    "credvault.v1.CreateCredentialResponse",
    "credvault.v1.RotateCredentialResponse",
    "credvault.v1.UpdateCredentialRequest",
    "credvault.v1.CreateProviderRequest",
    "credvault.v1.UpdateTokenRequest",
];

#[expect(clippy::disallowed_methods, reason = "cargo passes the folder in the environment")]
fn main() -> Result<(), Box<dyn Error>> {
    let files = SERVICES.map(|service| format!("credvault/v1/{service}_service.proto"));
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;

    // The encoded form keeps the sensitivity option, which `prost_types` does not know.
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out_dir.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        .codec_path("crate::grpc::codec::Codec")
        // Channels are the callers' business; the service itself has none.
        .build_transport(false)
        // Ordered maps make the encoding of a request canonical: its fingerprint relies on it.
        .btree_map(".")
        .skip_debug(SECRET_MESSAGES)
        .compile_fds(compiler.file_descriptor_set())?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
