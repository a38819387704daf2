//! The control plane under measurement: the program itself, as it is run elsewhere.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_local::http;
use heddle_local::mesh::Binaries;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::control_plane::manifests::Files;
use crate::processes::{self, CpuTime, Memory};

/// What it is started with, each time.
#[derive(Clone, Debug)]
pub struct Program {
    binaries: Binaries,
    files: Files,
    /// Where proxies find it.
    pub address: SocketAddr,
    metrics: SocketAddr,
}

/// One that runs; it is killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: u32,
    metrics: SocketAddr,
}

impl Program {
    /// The one beside this program, on ports that are free now.
    pub async fn find(files: &Files) -> Result<Self> {
        let binaries = Binaries::beside_current_program()?;
        let path = binaries.path("heddle-control-plane");
        ensure!(path.is_file(), "{} was not built: cargo build --workspace --bins", path.display());
        let (address, metrics) = (free().await?, free().await?);
        Ok(Self { binaries, files: files.clone(), address, metrics })
    }

    /// Starts it; it may be long before it is ready.
    pub fn start(&self) -> Result<Running> {
        let log = OpenOptions::new().create(true).append(true).open(self.files.log())?;
        let child = Command::new(self.binaries.path("heddle-control-plane"))
            .arg(format!("--directory={}", self.files.manifests().display()))
            .arg(format!("--state-directory={}", self.files.state().display()))
            .arg(format!("--join-tokens={}", self.files.join_tokens().display()))
            .arg(format!("--listen={}", self.address))
            .arg(format!("--metrics-listen={}", self.metrics))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the control plane")?;
        let pid = child.id().context("the control plane has ended at once")?;
        Ok(Running { child, pid, metrics: self.metrics })
    }
}

impl Running {
    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let answer = http::get(self.metrics, "/ready").await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            ensure!(ended.is_none(), "the control plane has ended; its log says why");
            ensure!(Instant::now() < deadline, "the control plane does not become ready");
            sleep(POLL_PAUSE).await;
        }
    }

    /// Kills it, with no time to say goodbye.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// The CPU time of its threads.
    pub fn cpu(&self) -> Result<CpuTime> {
        CpuTime::of(self.pid)
    }

    /// Its memory.
    pub fn memory(&self) -> Result<Memory> {
        processes::memory(self.pid)
    }

    /// One of its metrics without labels.
    pub async fn metric(&self, name: &str) -> Result<u64> {
        let answer = http::get(self.metrics, "/metrics").await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok()).with_context(|| format!("no {name}"))
    }
}

/// It may be taken by somebody else before it is used; then the control plane does not start, and says so.
async fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?)
}

/// A debug build reads thousands of files.
const READY_WITHIN: Duration = Duration::from_secs(120);
const POLL_PAUSE: Duration = Duration::from_millis(5);
