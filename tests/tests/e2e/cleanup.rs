//! Nothing is left of a world, however it ends.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_local::mesh::Mesh;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::program;
use heddle_tests::requirements;
use heddle_tests::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};

#[tokio::test]
async fn nothing_is_left_after_ctrl_c() -> Result<()> {
    ends_without_a_trace(Signal::SIGINT, Victim::Owner).await
}

#[tokio::test]
async fn nothing_is_left_after_termination() -> Result<()> {
    ends_without_a_trace(Signal::SIGTERM, Victim::Owner).await
}

#[tokio::test]
async fn nothing_is_left_after_the_owner_was_killed() -> Result<()> {
    ends_without_a_trace(Signal::SIGKILL, Victim::Owner).await
}

#[tokio::test]
async fn nothing_is_left_after_the_runner_was_killed() -> Result<()> {
    ends_without_a_trace(Signal::SIGKILL, Victim::Runner).await
}

#[tokio::test]
async fn nothing_is_left_of_a_demo_that_is_interrupted() -> Result<()> {
    if requirements::skip(&[])? {
        return Ok(());
    }
    let place = Place::new()?;
    let demo = place.meshctl(&["demo", "--output", "json", "--duration", "60s"], false);
    let mut owner = program::start(demo)?;
    wait::until("the demo runs its applications", LIMIT, async || {
        let processes = place.processes()?;
        let applications = processes.iter().filter(|(_, command)| command.contains("shop"));
        ensure!(applications.count() >= 5, "{processes:?}");
        Ok(())
    })
    .await?;
    kill(Pid::from_raw(i32::try_from(owner.id().context("it has ended")?)?), Signal::SIGINT)?;
    tokio::time::timeout(LIMIT, owner.wait()).await.context("the demo goes on")??;
    place.is_clean().await
}

#[tokio::test]
async fn a_detached_world_goes_on_until_it_is_taken_down() -> Result<()> {
    if requirements::skip(&[])? {
        return Ok(());
    }
    let place = Place::new()?;
    let up = program::finish(place.meshctl(&["local", "up", "--detach"], true), LIMIT).await?;
    ensure!(up.code == Some(0), "local up: {up:?}");
    ensure!(!place.processes()?.is_empty(), "a detached world runs by itself");
    let status = program::finish(place.meshctl(&["local", "status"], false), LIMIT).await?;
    ensure!(status.code == Some(0) && status.stdout.contains("server"), "local status: {status:?}");
    let down = program::finish(place.meshctl(&["local", "down"], false), LIMIT).await?;
    ensure!(down.code == Some(0), "local down: {down:?}");
    place.is_clean().await
}

/// Whose process the signal is for.
#[derive(Clone, Copy, Debug)]
enum Victim {
    /// The command that was typed.
    Owner,
    /// The process that keeps the world.
    Runner,
}

async fn ends_without_a_trace(signal: Signal, victim: Victim) -> Result<()> {
    if requirements::skip(&[])? {
        return Ok(());
    }
    let place = Place::new()?;
    let devices = devices()?;
    let mut owner = program::start(place.meshctl(&["local", "up"], true))?;
    place.is_up(&mut owner).await?;
    let running = place.processes()?;
    // The command, the world, the control plane, two proxies and two applications.
    ensure!(running.len() >= 7, "only {running:?} run");
    let process = match victim {
        Victim::Owner => i32::try_from(owner.id().context("it has ended")?)?,
        Victim::Runner => {
            let runner = running.iter().find(|(_, command)| command.contains("heddle-local"));
            runner.with_context(|| format!("no runner in {running:?}"))?.0
        }
    };
    kill(Pid::from_raw(process), signal)?;
    tokio::time::timeout(LIMIT, owner.wait()).await.context("the command goes on")??;
    place.is_clean().await?;
    let left: Vec<_> = devices.symmetric_difference(&self::devices()?).cloned().collect();
    // Other tests make no devices of this namespace either: worlds have their own.
    ensure!(left.is_empty(), "network devices have come or gone: {left:?}");
    Ok(())
}

/// Where one test's programs, manifests and worlds are, so that its processes are told from others'.
struct Place {
    directory: TempDir,
    programs: PathBuf,
}

impl Place {
    fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("hd-").tempdir()?;
        let programs = program::copies(directory.path())?;
        let manifests = directory.path().join("manifests");
        std::fs::create_dir(&manifests)?;
        std::fs::create_dir(directory.path().join("run"))?;
        // The path is an argument of every application, by which it is found.
        let mark = directory.path().to_string_lossy().into_owned();
        let command = ["sh", "-c", "sleep infinity; true", &mark];
        let pods = [Pod::new("client").command(&command), Pod::new("server").command(&command)];
        std::fs::write(manifests.join("pods.yaml"), documents(&pods))?;
        std::fs::write(
            manifests.join("service.yaml"),
            Service::new("server").port(80, 80).to_string(),
        )?;
        Ok(Self { directory, programs })
    }

    fn run(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    /// The command, with the directory of manifests if it takes one.
    fn meshctl(&self, arguments: &[&str], with_manifests: bool) -> Command {
        let mut command = Command::new(self.programs.join("meshctl"));
        command.args(arguments).env("XDG_RUNTIME_DIR", self.run());
        if with_manifests {
            command.arg(self.directory.path().join("manifests"));
        }
        command
    }

    async fn is_up(&self, owner: &mut Child) -> Result<()> {
        wait::until("the world is ready", LIMIT, async || {
            ensure!(owner.id().is_some() && owner.try_wait()?.is_none(), "the command has ended");
            let world = std::fs::read_dir(self.run().join("heddle"))?
                .flatten()
                .next()
                .context("no world")?;
            let mesh = Mesh::attach(world.path()).await?;
            let status = mesh.status().await?;
            ensure!(status.workloads.len() == 2, "{status:?}");
            ensure!(status.workloads.iter().all(|workload| workload.ready), "{status:?}");
            Ok(())
        })
        .await
    }

    /// All processes that were started from here, or were told of this place.
    fn processes(&self) -> Result<Vec<(i32, String)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Ok(process) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let program = std::fs::read_link(entry.path().join("exe")).unwrap_or_default();
            let mark = self.directory.path();
            if program.starts_with(mark) || command.contains(&*mark.to_string_lossy()) {
                found.push((process, command));
            }
        }
        Ok(found)
    }

    /// No process, no world's files, no mount.
    async fn is_clean(&self) -> Result<()> {
        wait::until("nothing is left", Duration::from_secs(10), async || {
            let processes = self.processes()?;
            ensure!(processes.is_empty(), "these run still: {processes:?}");
            Ok(())
        })
        .await?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let mark = self.directory.path().to_string_lossy().into_owned();
        ensure!(!mounts.contains(&mark), "mounts are left");
        wait::until("the world's files are gone", Duration::from_secs(10), async || {
            let left = secrets_below(&self.run());
            ensure!(left.is_empty(), "left behind: {left:?}");
            Ok(())
        })
        .await
    }
}

fn secrets_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(secrets_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The network devices of this machine.
fn devices() -> Result<BTreeSet<String>> {
    let devices = std::fs::read_dir("/sys/class/net")?;
    Ok(devices.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

const LIMIT: Duration = Duration::from_secs(60);
