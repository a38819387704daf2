//! What a cluster is started with.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::directory::Name;

/// What a cluster is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Options {
    /// The cluster's name.
    pub name: String,
    /// How many nodes; the first one also runs the control plane.
    pub nodes: u8,
    /// The folder with `kube-apiserver` and the others, as [`crate::kubernetes::build`] leaves it.
    pub programs: PathBuf,
    /// Archives of images that every node gets before its first pod.
    pub images: Vec<PathBuf>,
    /// How long to wait while another cluster of this name lives.
    pub wait: Duration,
}

impl Options {
    /// A cluster of two nodes, without images.
    pub fn new(name: &Name, programs: PathBuf) -> Self {
        Self {
            name: name.to_string(),
            nodes: DEFAULT_NODES,
            programs,
            images: Vec::new(),
            wait: Duration::ZERO,
        }
    }

    /// The cluster's name, checked.
    pub fn name(&self) -> Result<Name> {
        self.name.parse()
    }

    /// Reads what [`Options::to_json`] wrote.
    pub fn from_json(text: &str) -> Result<Self> {
        let options: Self = serde_json::from_str(text).context("read the cluster's options")?;
        ensure!(
            (1..=NODES_LIMIT).contains(&options.nodes),
            "{} nodes: want 1 to {NODES_LIMIT}",
            options.nodes
        );
        Ok(options)
    }

    /// As JSON.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }
}

/// Enough for everything that only shows between nodes.
pub const DEFAULT_NODES: u8 = 2;
/// More have never been tried; each takes its own kubelet and containerd.
pub const NODES_LIMIT: u8 = 9;
