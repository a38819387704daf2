//! What a node is told and answers, one line of JSON each, over a Unix socket of its own.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::directory::Directory;

/// What a node is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// To say how it is.
    Status,
    /// To end one of its components, and leave it ended.
    Stop {
        /// Such as `kube-apiserver`.
        component: String,
    },
    /// To start it again, and wait until it serves.
    Start {
        /// Such as `kube-apiserver`.
        component: String,
    },
    /// To have one of its components stand still: it is there, and does nothing.
    Freeze {
        /// Such as `kubelet`.
        component: String,
    },
    /// To let it go on, as if no time had passed.
    Thaw {
        /// Such as `kubelet`.
        component: String,
    },
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Response {
    /// It was done, and this is how it is now.
    Status {
        /// How far it has come.
        phase: Phase,
        /// What runs on it.
        components: Vec<ComponentStatus>,
    },
    /// It was not done.
    Refused {
        /// Why.
        reason: String,
    },
}

/// How far a node has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Something does not serve yet.
    Starting,
    /// Everything serves.
    Ready,
    /// Something does not, and will not.
    Failed {
        /// What, and the end of its log.
        reason: String,
    },
}

/// One process of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// Such as `kubelet`.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
    /// How often it ended unasked.
    pub restarts: u32,
}

/// Tells a node something, and waits for its answer.
pub async fn ask(
    directory: &Directory,
    node: u8,
    request: &Request,
) -> Result<(Phase, Vec<ComponentStatus>)> {
    let socket = directory.node_socket(node);
    let exchange = async {
        let mut stream = UnixStream::connect(&socket).await?;
        stream.write_all(write(request).as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(&mut stream).read_line(&mut line).await?;
        anyhow::Ok(line)
    };
    let line = tokio::time::timeout(ANSWER_LIMIT, exchange)
        .await
        .context("no answer in time")
        .flatten()
        .with_context(|| format!("ask node{node} on {}", socket.display()))?;
    match serde_json::from_str(&line).with_context(|| format!("read the answer {line:?}"))? {
        Response::Status { phase, components } => Ok((phase, components)),
        Response::Refused { reason } => bail!("node{node}: {reason}"),
    }
}

/// A request from its line.
pub fn read_request(line: &str) -> Result<Request> {
    serde_json::from_str(line).with_context(|| format!("read the request {line:?}"))
}

/// The line of a request or an answer.
pub fn write(message: &impl Serialize) -> String {
    let mut line = serde_json::to_string(message).unwrap_or_default();
    line.push('\n');
    line
}

/// Longer than anything takes that a node is asked to wait for.
const ANSWER_LIMIT: Duration = Duration::from_secs(180);
