//! Writes the CustomResourceDefinitions to `install/crds/`.

use std::path::Path;

use heddle_control_plane::crd;

fn main() -> anyhow::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../install/crds");
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("trafficpolicies.heddle.dev.yaml"), crd::traffic_policy()?)?;
    Ok(())
}
