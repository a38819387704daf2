//! The other end of a connection with a proxy: `heddle-test-peer`, run in a workload's namespaces with
//! whatever certificate a test gives it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::certificate::Minted;
use crate::program;
use crate::world::World;

/// The files of a certificate that a peer presents.
#[derive(Clone, Debug)]
pub struct Presented {
    chain: PathBuf,
    key: PathBuf,
}

/// What a peer that connects is told to do.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    /// `address:port`.
    pub address: String,
    /// The SNI.
    pub server_name: String,
    /// The certificate, if any.
    pub presented: Option<&'a Presented>,
    /// What to send once connected.
    pub request: &'a str,
}

/// What became of a connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// What the other side answered; empty when it refused.
    pub answer: String,
    /// Why it went wrong.
    pub error: Option<String>,
    /// The other side's certificate, in base64.
    pub certificate: Option<String>,
}

impl Presented {
    /// Writes a certificate where workloads can read it.
    pub fn write(world: &World, name: &str, minted: &Minted) -> Result<Self> {
        let directory = world.path("certificates");
        std::fs::create_dir_all(&directory)?;
        minted.write(&directory, name)?;
        let file = |extension: &str| directory.join(format!("{name}.{extension}"));
        Ok(Self { chain: file("pem"), key: file("key") })
    }

    /// As the command line of a peer has it.
    pub fn arguments(&self) -> [String; 4] {
        ["--chain".to_owned(), text(&self.chain), "--key".to_owned(), text(&self.key)]
    }
}

/// Connects from a workload, or from the bridge, and presents a certificate.
pub async fn connect(world: &World, workload: &str, attempt: &Attempt<'_>) -> Result<Outcome> {
    let mut argv = vec![program()?, "connect".to_owned()];
    argv.extend(["--address".to_owned(), attempt.address.clone()]);
    argv.extend(["--server-name".to_owned(), attempt.server_name.clone()]);
    if let Some(presented) = attempt.presented {
        argv.extend(presented.arguments());
    }
    let output = world.run_with_input(workload, &argv, attempt.request.as_bytes().to_vec()).await?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("the peer said: {}{}", output.stdout_text(), output.stderr_text()))
}

/// The command line of a peer that serves on a port, until it is killed.
pub fn serve(port: u16, presented: &Presented) -> Result<Vec<String>> {
    let mut argv = vec![program()?, "serve".to_owned(), "--port".to_owned(), port.to_string()];
    argv.extend(presented.arguments());
    Ok(argv)
}

fn program() -> Result<String> {
    // Cargo builds it with the tests.
    Ok(text(&program::binaries()?.path("heddle-test-peer")))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
