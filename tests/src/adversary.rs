//! Clients that mean no good, or are merely slow, and the application that they are slow with:
//! `heddle-test-adversary`, run in a workload's namespaces. The shapes and floods are plain data; here is
//! how a test asks for them.

pub mod connection;
pub mod flood;
pub mod frames;
pub mod hold;
pub mod patient;
pub mod shape;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use crate::program;
use crate::world::World;

/// Runs the adversary in a workload and reads what it says.
pub async fn run<T: DeserializeOwned>(
    world: &World,
    workload: &str,
    arguments: &[String],
) -> Result<T> {
    let mut argv = vec![program()?];
    argv.extend_from_slice(arguments);
    let output = world.run(workload, &argv).await?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{arguments:?}: {}{}", output.stdout_text(), output.stderr_text()))
}

/// The command line of an application that takes whole requests of both versions, and answers with as
/// much as it is asked for.
pub fn patient(port: u16) -> Result<Vec<String>> {
    Ok(vec![program()?, "serve".to_owned(), "--port".to_owned(), port.to_string()])
}

/// The command line of an application that takes connections and has nothing to say.
pub fn mute(port: u16) -> Result<Vec<String>> {
    Ok(vec![program()?, "mute".to_owned(), "--port".to_owned(), port.to_string()])
}

fn program() -> Result<String> {
    // Cargo builds it with the tests.
    let path = program::binaries()?.path("heddle-test-adversary");
    Ok(path.to_string_lossy().into_owned())
}
