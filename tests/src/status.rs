//! What `meshctl status` says, read as a machine would.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::program::{self, Said};
use crate::wait;
use crate::world::World;

/// The status of the control plane.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// Whether anything is refused.
    pub refused: bool,
    /// The newest version.
    pub version: u64,
    /// What it was made from.
    pub objects: Vec<Object>,
    /// Who gets it.
    pub proxies: Vec<Proxy>,
    /// Files that could not be read.
    pub source_errors: Vec<SourceError>,
}

/// A Kubernetes object.
#[derive(Clone, Debug, Deserialize)]
pub struct Object {
    /// Such as `HTTPRoute`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Where it was read from.
    pub file: String,
    /// As on Kubernetes.
    pub conditions: Vec<Condition>,
}

/// As in Kubernetes.
#[derive(Clone, Debug, Deserialize)]
pub struct Condition {
    /// Such as `Accepted`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// For people.
    pub message: String,
}

/// A proxy.
#[derive(Clone, Debug, Deserialize)]
pub struct Proxy {
    /// Its workload.
    pub name: String,
    /// Whether its stream is open.
    pub connected: bool,
    /// The highest version it took.
    pub acknowledged_version: u64,
    /// What it refuses now.
    pub refusals: Vec<Refusal>,
}

/// What a proxy refuses.
#[derive(Clone, Debug, Deserialize)]
pub struct Refusal {
    /// Which version.
    pub version: u64,
    /// Which resource.
    pub resource: String,
    /// Why.
    pub reason: String,
    /// Which object is at fault.
    pub object: String,
    /// Where in it.
    pub field: String,
}

/// A file that could not be read.
#[derive(Clone, Debug, Deserialize)]
pub struct SourceError {
    /// Which.
    pub file: String,
    /// Why.
    pub message: String,
}

impl Status {
    /// The status now.
    pub async fn read(world: &World) -> Result<Self> {
        let said = run(world, &["--output", "json"]).await?;
        serde_json::from_str(&said.stdout)
            .with_context(|| format!("meshctl status said: {}{}", said.stdout, said.stderr))
    }

    /// One proxy.
    pub fn proxy(&self, name: &str) -> Result<&Proxy> {
        let found = self.proxies.iter().find(|proxy| proxy.name == name);
        found.with_context(|| format!("no proxy {name} in {:?}", self.proxies))
    }

    /// One object.
    pub fn object(&self, kind: &str, name: &str) -> Result<&Object> {
        let found = self.objects.iter().find(|object| object.kind == kind && object.name == name);
        found.with_context(|| format!("no {kind} {name} in {:?}", self.objects))
    }

    /// Everything that says no, as text.
    pub fn complaints(&self) -> Vec<String> {
        let objects = self.objects.iter().flat_map(|object| {
            let refused = object.conditions.iter().filter(|condition| condition.status == "False");
            refused.map(move |condition| {
                format!("{}: {} {}: {}", object.file, object.kind, object.name, condition.message)
            })
        });
        let files =
            self.source_errors.iter().map(|error| format!("{}: {}", error.file, error.message));
        objects.chain(files).collect()
    }
}

/// The status as a table, for people.
pub async fn table(world: &World) -> Result<Said> {
    run(world, &["--output", "table"]).await
}

/// Does something that changes the configuration, and waits until this workload's proxy has acknowledged
/// a version that is newer than all before.
pub async fn acknowledged_by<F>(world: &World, workload: &str, change: F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let before = Status::read(world).await?.version;
    change.await?;
    wait::until("the change is acknowledged", Duration::from_secs(10), async || {
        let status = Status::read(world).await?;
        let proxy = status.proxy(workload)?;
        ensure!(proxy.acknowledged_version > before, "still at {}", proxy.acknowledged_version);
        Ok(())
    })
    .await
}

async fn run(world: &World, arguments: &[&str]) -> Result<Said> {
    let socket = world.mesh()?.files().admin_socket();
    let socket = socket.to_string_lossy();
    let mut all = vec!["status", "--admin-socket", &socket];
    all.extend(arguments);
    program::meshctl(&all).await
}
