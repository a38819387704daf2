//! Compiles the `.proto` files without protoc.

use std::path::Path;

#[expect(clippy::disallowed_methods, reason = "cargo tells build scripts by variables")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=heddle");
    let files = [
        "heddle/identity/v1/identity.proto",
        "heddle/discovery/v1/discovery.proto",
        "heddle/peers/v1/peers.proto",
        "heddle/telemetry/v1/telemetry.proto",
        "heddle/tap/v1/tap.proto",
    ];
    tonic_prost_build::configure()
        .codec_path(CODEC)
        // What a proxy was sent is shown by meshctl as it is on the wire.
        .type_attribute(".heddle.discovery.v1", SERIALIZE)
        .field_attribute(".heddle.discovery.v1.SocketAddress.ip", IP)
        .compile_fds(protox::compile(files, ["."])?)?;
    // In a place of its own: what it imports is there already, and would be written over with nothing.
    let place = Path::new(&std::env::var("OUT_DIR")?).join("admin");
    std::fs::create_dir_all(&place)?;
    tonic_prost_build::configure()
        .codec_path(CODEC)
        .extern_path(".heddle.discovery.v1", "crate::discovery")
        .out_dir(place)
        .compile_fds(protox::compile(["heddle/admin/v1/admin.proto"], ["."])?)?;
    Ok(())
}

const CODEC: &str = "crate::codec::SmallBuffers";
const SERIALIZE: &str = "#[derive(serde::Serialize)] #[serde(rename_all = \"camelCase\")]";
const IP: &str = "#[serde(serialize_with = \"crate::show::ip\")]";
