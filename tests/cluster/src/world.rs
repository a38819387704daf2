//! The outermost process of a cluster: holds its lock, makes its namespaces, starts the first process in them, brings
//! connections to the API server inside, and cleans up when it has ended.
//!
//! It has one thread, and so its end is the end of everything: the first process inside asks the kernel for that
//! (`PR_SET_PDEATHSIG`), and when the first process of a PID namespace ends, the kernel kills all others in it.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::Flock;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::addresses;
use crate::cgroups;
use crate::directory::Directory;
use crate::options::Options;
use crate::pki;
use heddle_runtime::signals;
use heddle_runtime::tasks::Tasks;

/// What whoever started a cluster is told, one line of JSON each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Announcement {
    /// It begins.
    Begun,
    /// Everything serves, and all nodes take pods.
    Ready,
    /// It does not, and ends.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Runs a cluster until it ends.
pub fn run(options: &Options) -> ExitCode {
    match live(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            announce(&Announcement::Failed { reason: format!("{error:#}") });
            ExitCode::FAILURE
        }
    }
}

/// Says how it went, to whoever started the cluster.
pub(crate) fn announce(announcement: &Announcement) {
    let mut line = serde_json::to_string(announcement).unwrap_or_default();
    line.push('\n');
    // Nobody may be there to read it any more, which changes nothing.
    let _ = std::io::stdout().write_all(line.as_bytes()).and_then(|()| std::io::stdout().flush());
}

fn live(options: &Options) -> Result<()> {
    let directory = Directory::new(&options.name()?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let _lock = take_lock(&directory, options.wait).await?;
        clean_up(&directory)?;
        let outcome = live_in(&directory, options).await;
        // Also when it never came to life.
        clean_up(&directory).and(outcome)
    })
}

/// What a cluster leaves: nothing but this, if it was killed.
pub fn clean_up(directory: &Directory) -> Result<()> {
    cgroups::remove(directory)?;
    directory.remove()
}

async fn take_lock(directory: &Directory, limit: Duration) -> Result<Flock<File>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(lock) = directory.try_lock()? {
            return Ok(lock);
        }
        let name = directory.name();
        if Instant::now() >= deadline {
            bail!(
                "a cluster named {name} is up already: use it, end it with `heddle-cluster down --name {name}`, \
                 wait for its end with --wait, or take another --name"
            );
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

async fn live_in(directory: &Directory, options: &Options) -> Result<()> {
    let ending = signals::terminated();
    tokio::pin!(ending);
    // The administrator's key will be in it.
    let path = directory.path();
    let made = fs::DirBuilder::new().mode(0o700).create(path);
    made.with_context(|| format!("make {}", path.display()))?;
    fs::create_dir(directory.logs())?;
    fs::write(directory.options(), options.to_json()?)?;
    fs::write(directory.process(), std::process::id().to_string())?;
    pki::create(directory, options.nodes)?;
    // Of this machine's network namespace, though it is accepted on from within the cluster's.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    pki::outer_kubeconfig(directory, listener.local_addr()?.port())?;
    make_namespaces()?;
    announce(&Announcement::Begun);
    let log = File::create(directory.logs().join("supervisor.log"))?;
    let mut first = Command::new("/proc/self/exe")
        .arg("init")
        .arg("--state-directory")
        .arg(directory.path())
        // Owner and supervisor talk over the standard input and output, which are passed on.
        .stdin(Stdio::inherit())
        .stdout(Stdio::inherit())
        .stderr(log)
        .spawn()
        .context("start the first process")?;
    let process = first.id().context("the first process has no number")?;
    let tasks = Tasks::new();
    loop {
        tokio::select! {
            status = first.wait() => {
                let status = status.context("wait for the first process")?;
                return if status.success() { Ok(()) } else { bail!("the first process ended with {status}") };
            }
            _ = &mut ending => {
                return end(&mut first, process).await;
            }
            Ok((stream, _)) = listener.accept() => tasks.spawn("world.connection", forward(stream)),
        }
    }
}

fn make_namespaces() -> Result<()> {
    let kinds = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(kinds).context("make namespaces, which takes root")?;
    keep_mounts()
}

/// Gives the first process inside mounts of its own: it mounts a /proc that is empty once everything has ended, while the
/// outermost process still needs one to clean up.
pub fn leave_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    keep_mounts()
}

fn keep_mounts() -> Result<()> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("keep mounts to itself")
}

/// Everything inside is killed at once: there is nothing in a cluster that would have to be kept.
async fn end(first: &mut Child, process: u32) -> Result<()> {
    if let Ok(process) = i32::try_from(process) {
        kill(Pid::from_raw(process), Signal::SIGKILL).context("end the first process")?;
    }
    first.wait().await.context("wait for the first process")?;
    Ok(())
}

/// A connection of this machine's network namespace, and one of the cluster's, which this thread is in.
async fn forward(mut outer: TcpStream) {
    let address = (addresses::of_node(addresses::FIRST_NODE), addresses::API_PORT);
    if let Ok(mut inner) = TcpStream::connect(address).await {
        // Either end may break off; the other learns of it by the closing of both.
        let _ = copy_bidirectional(&mut outer, &mut inner).await;
    }
}

const LOCK_PAUSE: Duration = Duration::from_millis(500);
