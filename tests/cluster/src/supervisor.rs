//! The second process of a cluster's PID namespace: makes the nodes' network, starts the nodes, completes the cluster, and
//! ends when a node does or when the cluster's owner has gone.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use crate::bootstrap;
use crate::directory::Directory;
use crate::node::network;
use crate::options::Options;
use crate::world::{Announcement, announce};

/// What the owner writes so that the cluster outlives it.
pub const STAY: &[u8] = b"stay\n";

/// Reads the options of the cluster in this directory.
pub fn options(state_directory: &Path) -> Result<Options> {
    let path = state_directory.join("options.json");
    let text = std::fs::read_to_string(&path);
    Options::from_json(&text.with_context(|| format!("read {}", path.display()))?)
}

/// Runs the cluster until it ends; says so when it is ready, or why it is not.
pub async fn run(options: Options) -> Result<()> {
    let directory = Directory::new(&options.name()?)?;
    network::make_fabric()?;
    let owner_gone = owner_gone()?;
    let mut nodes = Vec::new();
    for number in 1..=options.nodes {
        nodes.push(start_node(&directory, number)?);
    }
    let life = async {
        match Box::pin(bootstrap::complete(&directory, options.nodes)).await {
            Ok(()) => announce(&Announcement::Ready),
            Err(error) => return Err(error),
        }
        std::future::pending::<Result<()>>().await
    };
    let outcome = tokio::select! {
        outcome = life => outcome,
        outcome = first_end(&mut nodes, &directory) => outcome,
        _ = owner_gone => Ok(()),
    };
    if let Err(error) = &outcome {
        announce(&Announcement::Failed { reason: format!("{error:#}") });
    }
    outcome
}

fn start_node(directory: &Directory, number: u8) -> Result<Child> {
    let log = File::create(directory.logs().join(format!("node{number}.log")))?;
    Command::new("/proc/self/exe")
        .arg("node")
        .arg("--state-directory")
        .arg(directory.path())
        .arg(format!("--number={number}"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start node{number}"))
}

/// Waits until one of the nodes ends, which none does by itself.
async fn first_end(nodes: &mut [Child], directory: &Directory) -> Result<()> {
    let ends = nodes.iter_mut().map(|node| Box::pin(node.wait()));
    let (status, index, _) = futures_util::future::select_all(ends).await;
    let name = format!("node{}", index + 1);
    let log = directory.logs().join(format!("{name}.log"));
    bail!("{name} ended with {}; the end of its log:\n{}", status?, crate::component::tail(&log))
}

/// Completes when the standard input is closed without [`STAY`] on it. The kernel closes it when the owner ends, however
/// it ends.
fn owner_gone() -> Result<oneshot::Receiver<()>> {
    let (sender, receiver) = oneshot::channel();
    let watch = move || {
        let mut said = Vec::new();
        let read = std::io::stdin().read_to_end(&mut said);
        if read.is_ok() && said == STAY {
            // The receiver stays as it is for as long as the sender is there.
            std::mem::forget(sender);
            return;
        }
        // Nobody waits for it when the cluster is ending already.
        let _ = sender.send(());
    };
    std::thread::Builder::new().name("owner".to_owned()).spawn(watch)?;
    Ok(receiver)
}
