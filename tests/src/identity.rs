//! What `meshctl identity` says, read as a machine would.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;

use crate::program;
use crate::world::World;

/// What identities rest on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Identity {
    /// Whom everybody trusts.
    pub anchors: Vec<Anchor>,
    /// Who signs.
    pub issuer: Certificate,
    /// What is under way.
    pub rotation: Option<Rotation>,
    /// What proxies go by.
    pub proxies: Proxies,
}

/// A trust anchor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Anchor {
    /// Such as `current`.
    pub role: String,
    /// SHA-256.
    pub fingerprint: String,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Certificate {
    /// SHA-256.
    pub fingerprint: String,
}

/// A rotation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Rotation {
    /// Such as `announced`.
    pub step: String,
    /// In words.
    pub waiting_for: String,
    /// Pods whose proxies are not waited for.
    pub without: Vec<String>,
}

/// What proxies go by.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Proxies {
    /// All of them.
    pub connected: usize,
    /// Hold the present trust bundle.
    pub current_bundle: usize,
    /// Have a certificate of the present issuer.
    pub current_issuer: usize,
}

impl Identity {
    /// As of now.
    pub async fn read(world: &World) -> Result<Self> {
        let socket = world.mesh()?.files().admin_socket();
        let socket = socket.to_string_lossy();
        let said =
            program::meshctl(&["identity", "--admin-socket", &socket, "--output", "json"]).await?;
        serde_json::from_str(&said.stdout)
            .with_context(|| format!("meshctl identity said: {}{}", said.stdout, said.stderr))
    }
}

/// Rotates `--root` or `--issuer` to the end; what was said meanwhile.
pub async fn rotate(world: &World, what: &str) -> Result<String> {
    let mut command = Command::new(program::binaries()?.path("meshctl"));
    let socket = world.mesh()?.files().admin_socket();
    command.args(["identity", "rotate", what, "--wait", "--admin-socket"]).arg(socket);
    let said = program::finish(command, Duration::from_secs(150)).await?;
    ensure!(said.code == Some(0), "{}{}", said.stdout, said.stderr);
    Ok(said.stdout)
}
