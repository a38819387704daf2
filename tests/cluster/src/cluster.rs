//! A cluster, for whoever wants one: started, or found running; commands on its nodes; its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::control::{self, ComponentStatus, Request};
use crate::directory::{Directory, Name};
use crate::image;
use crate::options::Options;
use crate::supervisor;
use crate::wait;
use crate::world::{self, Announcement};

/// A running cluster. One that was started here ends when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    directory: Directory,
    options: Options,
    /// Of the outermost process, whose standard input is what the cluster lives by.
    owned: Option<Child>,
}

impl Cluster {
    /// Starts a cluster and waits until it takes pods. `program` is `heddle-cluster`.
    ///
    /// Fails with the end of the log of what does not work; nothing is left then.
    pub async fn start(program: &Path, options: Options) -> Result<Self> {
        let directory = Directory::new(&options.name()?)?;
        let mut world = Command::new(program)
            .arg("world")
            .arg(options.to_json()?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // One that stays would otherwise keep open what its starter's output goes to.
            .stderr(Stdio::null())
            // It ends by itself, in good order, when this process has ended; not by a signal for the terminal.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let output = world.stdout.take().context("the world has no output")?;
        let mut lines = BufReader::new(output).lines();
        loop {
            let line = lines.next_line().await?.context("the cluster ended without a word")?;
            match serde_json::from_str(&line).with_context(|| format!("read {line:?}"))? {
                Announcement::Begun => {}
                Announcement::Ready => {
                    return Ok(Self { directory, options, owned: Some(world) });
                }
                Announcement::Failed { reason } => {
                    drop(world.stdin.take());
                    world.wait().await?;
                    let logs = directory.last_logs();
                    bail!("{reason}\n(all logs: {})", logs.display());
                }
            }
        }
    }

    /// The cluster of this name, which somebody else started.
    pub fn attach(name: &Name) -> Result<Self> {
        let directory = Directory::new(name)?;
        let dead = directory.try_lock()?.is_some();
        ensure!(
            !dead,
            "no cluster named {name} is up: start it with `heddle-cluster up --name {name}`"
        );
        let options = supervisor::options(directory.path())?;
        Ok(Self { directory, options, owned: None })
    }

    /// Lets it live on when this process ends.
    pub async fn stay(mut self) -> Result<()> {
        if let Some(mut world) = self.owned.take() {
            let mut input = world.stdin.take().context("the world has no input")?;
            input.write_all(supervisor::STAY).await?;
        }
        Ok(())
    }

    /// Ends it and waits until nothing of it is left.
    pub async fn end(mut self) -> Result<()> {
        match self.owned.take() {
            Some(mut world) => {
                drop(world.stdin.take());
                let status = world.wait().await?;
                ensure!(status.success(), "the cluster ended with {status}");
                Ok(())
            }
            None => end(self.directory.name()).await,
        }
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.kubeconfig()
    }

    /// The folder with `kubectl` and the other programs.
    pub fn programs(&self) -> &Path {
        &self.options.programs
    }

    /// The names of its nodes.
    pub fn nodes(&self) -> impl Iterator<Item = String> {
        (1..=self.options.nodes).map(|number| format!("node{number}"))
    }

    /// A client with all rights.
    pub async fn client(&self) -> Result<kube::Client> {
        crate::client::from_kubeconfig(&self.kubeconfig()).await
    }

    /// A command that will run on a node, with all rights, in the node's network and with its files. Fails for a node
    /// that does not exist.
    pub fn on_node(&self, node: &str, argv: &[impl AsRef<str>]) -> Result<Command> {
        let process = self.node_process(self.number(node)?)?;
        let mut command = Command::new("nsenter");
        // All but the PID namespace, which would take one process more, and a signal would not reach the command.
        command.arg(format!("--target={process}"));
        command.args(["--mount", "--net", "--uts", "--ipc", "--wd=/", "--"]);
        command.args(argv.iter().map(AsRef::as_ref));
        Ok(command)
    }

    /// What a command on a node prints; it must end well.
    pub async fn ask_node(&self, node: &str, argv: &[impl AsRef<str>]) -> Result<String> {
        let words: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
        let output = self.on_node(node, argv)?.stdin(Stdio::null()).output();
        let output = tokio::time::timeout(COMMAND_LIMIT, output)
            .await
            .with_context(|| format!("on {node}: {words:?} takes more than {COMMAND_LIMIT:?}"))??;
        ensure!(
            output.status.success(),
            "on {node}: {words:?}: {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What `kubectl` prints for these arguments, with this on its standard input; it must end well.
    pub async fn kubectl(&self, arguments: &[impl AsRef<str>], input: &str) -> Result<String> {
        let words: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        let mut child = Command::new(self.programs().join("kubectl"))
            .args(&words)
            .env("KUBECONFIG", self.kubeconfig())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start kubectl")?;
        let mut writer = child.stdin.take().context("kubectl has no input")?;
        let exchange = async {
            // It may not read what it has no use for.
            let _ = writer.write_all(input.as_bytes()).await;
            drop(writer);
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(COMMAND_LIMIT, exchange)
            .await
            .with_context(|| format!("kubectl {words:?} takes more than {COMMAND_LIMIT:?}"))??;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "kubectl {words:?}: {}: {printed}{complaint}",
            output.status
        );
        Ok(printed)
    }

    /// Gives all nodes the images of an archive.
    pub async fn load(&self, archive: &Path) -> Result<()> {
        let archive =
            archive.canonicalize().with_context(|| format!("find {}", archive.display()))?;
        for node in self.nodes() {
            self.ask_node(&node, &image::import_command(&archive)).await?;
        }
        Ok(())
    }

    /// Ends a component of a node, such as `kube-apiserver`, and leaves it ended.
    pub async fn stop(&self, node: &str, component: &str) -> Result<()> {
        let request = Request::Stop { component: component.to_owned() };
        control::ask(&self.directory, self.number(node)?, &request).await.map(drop)
    }

    /// Starts it again, and waits until it serves.
    pub async fn resume(&self, node: &str, component: &str) -> Result<()> {
        let request = Request::Start { component: component.to_owned() };
        control::ask(&self.directory, self.number(node)?, &request).await.map(drop)
    }

    /// Has a component of a node stand still, such as `kubelet`: the node is not heard of, and what runs on it runs on.
    pub async fn freeze(&self, node: &str, component: &str) -> Result<()> {
        let request = Request::Freeze { component: component.to_owned() };
        control::ask(&self.directory, self.number(node)?, &request).await.map(drop)
    }

    /// Lets it go on.
    pub async fn thaw(&self, node: &str, component: &str) -> Result<()> {
        let request = Request::Thaw { component: component.to_owned() };
        control::ask(&self.directory, self.number(node)?, &request).await.map(drop)
    }

    /// What runs on a node.
    pub async fn components(&self, node: &str) -> Result<Vec<ComponentStatus>> {
        let number = self.number(node)?;
        Ok(control::ask(&self.directory, number, &Request::Status).await?.1)
    }

    fn number(&self, node: &str) -> Result<u8> {
        let number = self.nodes().position(|name| name == node);
        let number = number.and_then(|index| u8::try_from(index + 1).ok());
        number.with_context(|| {
            format!("no node {node:?}; there are {}", self.nodes().collect::<Vec<_>>().join(", "))
        })
    }

    /// The number of a node's process, as this PID namespace has it: the kernel translates it.
    fn node_process(&self, number: u8) -> Result<i32> {
        let socket = self.directory.node_socket(number);
        let stream = std::os::unix::net::UnixStream::connect(&socket)
            .with_context(|| format!("connect to {}", socket.display()))?;
        let peer =
            nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials)?;
        Ok(peer.pid())
    }
}

/// Ends the cluster of this name, if there is one, and removes what one that was killed has left.
pub async fn end(name: &Name) -> Result<()> {
    let directory = Directory::new(name)?;
    if let Some(_lock) = directory.try_lock()? {
        return world::clean_up(&directory);
    }
    let path = directory.process();
    let process: i32 = fs::read_to_string(&path)
        .with_context(|| format!("read {}: the cluster may be starting", path.display()))?
        .parse()
        .with_context(|| format!("read a number from {}", path.display()))?;
    kill(Pid::from_raw(process), Signal::SIGTERM)
        .with_context(|| format!("end the cluster's outermost process {process}"))?;
    wait::until("the cluster has cleaned up", END_LIMIT, async || {
        let lock = directory.try_lock()?.context("it has not ended")?;
        ensure!(!directory.path().exists(), "its directory is still there");
        drop(lock);
        Ok(())
    })
    .await
}

const COMMAND_LIMIT: Duration = Duration::from_secs(120);
const END_LIMIT: Duration = Duration::from_secs(60);
