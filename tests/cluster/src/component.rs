//! One process of a node: started, waited for until it serves, started again when it ends unasked, stopped on request.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// How a process is started, and how one sees that it serves.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it is called, and its log.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// When it serves.
    pub ready: Ready,
}

/// When a process serves.
#[derive(Clone, Debug)]
pub enum Ready {
    /// As soon as it runs: nobody waits for its first answer.
    AtOnce,
    /// When something listens on this Unix socket.
    Socket(PathBuf),
    /// When something listens on this address.
    Listens(SocketAddr),
    /// When a GET of this path is answered with 200 on this address, in plain text.
    Answers(SocketAddr, &'static str),
    /// When the API server says that it is ready, to whoever this kubeconfig is for.
    ApiServer(PathBuf),
}

/// A process, running or stopped.
#[derive(Debug)]
pub struct Component {
    plan: Plan,
    log: PathBuf,
    child: Option<Child>,
    restarts: u32,
}

impl Component {
    /// Starts it and waits until it serves.
    ///
    /// Fails with the end of its log when it ends before, or does not serve in time.
    pub async fn start(plan: Plan, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{}.log", plan.name));
        let mut component = Self { plan, log, child: None, restarts: 0 };
        component.resume().await?;
        Ok(component)
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.plan.name
    }

    /// The number of its process, if it runs.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// How often it was started again because it had ended.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Starts it, unless it runs, and waits until it serves.
    pub async fn resume(&mut self) -> Result<()> {
        if self.child.is_none() {
            self.spawn()?;
        }
        self.serves().await.with_context(|| format!("the end of its log:\n{}", tail(&self.log)))
    }

    /// Ends it: politely, and after a while not.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Some(process) = child.id().and_then(|id| i32::try_from(id).ok()) {
            // It may have ended at this moment, which is what is wanted; one that stands still hears nothing.
            let _ = kill(Pid::from_raw(process), Signal::SIGTERM);
            let _ = kill(Pid::from_raw(process), Signal::SIGCONT);
        }
        if tokio::time::timeout(STOP_LIMIT, child.wait()).await.is_err() {
            child.kill().await.with_context(|| format!("kill {}", self.plan.name))?;
        }
        Ok(())
    }

    /// Has it stand still: it keeps what it has, and does nothing. Fails if it does not run.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on. Fails if it does not run.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process().and_then(|id| i32::try_from(id).ok());
        let process = process.with_context(|| format!("{} does not run", self.plan.name))?;
        kill(Pid::from_raw(process), signal)
            .with_context(|| format!("send {signal} to {}", self.plan.name))
    }

    /// Looks whether it ended unasked, and if so starts it again.
    pub fn look_after(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let Some(status) = child.try_wait()? else { return Ok(()) };
        self.restarts += 1;
        eprintln!("{} ended with {status} and is started again", self.plan.name);
        self.spawn()
    }

    fn spawn(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("open {}", self.log.display()))?;
        let child = Command::new(&self.plan.program)
            .args(&self.plan.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.plan.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    async fn serves(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = self.ended()? {
                bail!("{} ended with {status} before it served", self.plan.name);
            }
            let outcome = tokio::time::timeout(LOOK_LIMIT, look(&self.plan.ready)).await;
            let reason = match outcome {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(reason)) => reason,
                Err(_elapsed) => anyhow::anyhow!("no answer within {LOOK_LIMIT:?}"),
            };
            if Instant::now() >= deadline {
                return Err(reason).with_context(|| {
                    format!("{} does not serve after {START_LIMIT:?}", self.plan.name)
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.as_mut().map_or(Ok(None), Child::try_wait)
    }
}

/// The end of a log, as much as one wants to read.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}

async fn look(ready: &Ready) -> Result<()> {
    match ready {
        Ready::AtOnce => Ok(()),
        Ready::Socket(path) => Ok(UnixStream::connect(path).await.map(drop)?),
        Ready::Listens(address) => Ok(TcpStream::connect(address).await.map(drop)?),
        Ready::Answers(address, path) => answers(*address, path).await,
        Ready::ApiServer(kubeconfig) => {
            let client = crate::client::from_kubeconfig(kubeconfig).await?;
            crate::client::is_ready(&client).await
        }
    }
}

/// The little of HTTP that a look at a health page takes.
async fn answers(address: SocketAddr, path: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LIMIT_BYTES).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.lines().next().unwrap_or_default();
    anyhow::ensure!(status.contains(" 200 "), "{path} answers {status:?}");
    Ok(())
}

const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(5);
const LOOK_LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
const TAIL_LINES: usize = 40;
const ANSWER_LIMIT_BYTES: u64 = 64 * 1024;
