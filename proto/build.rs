//! Compiles the `.proto` files without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "heddle/identity/v1/identity.proto",
        "heddle/discovery/v1/discovery.proto",
        "heddle/admin/v1/admin.proto",
        "heddle/peers/v1/peers.proto",
    ];
    println!("cargo::rerun-if-changed=heddle");
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
