//! All systems side by side: one local mesh, with a client's and a server's pod for each system, on one bridge. Only
//! Heddle's have its proxies; those of the others are started here, in the pods' own network namespaces, with the same
//! redirect on both sides. Everything is gone when the world is dropped, or when this process dies.

pub mod envoy;
pub mod haproxy;
pub mod install;
pub mod manifests;
pub mod redirect;
pub mod sidecar;
pub mod verify;

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_local::mesh::{Binaries, Mesh, MeshConfig};
use heddle_local::protocol::{Signal, Target};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::certificates;
use crate::load::plan::{Extent, Outcome, Plan, Shape};
use crate::serve::Counts;
use crate::system::{READY_PORT, Side, System};
use install::Programs;
use sidecar::Sidecar;

/// The world that everything is measured in.
pub struct World {
    /// Before the folder, so that it ends before its files go.
    sidecars: Vec<Sidecar>,
    mesh: Arc<Mesh>,
    folder: TempDir,
    own: PathBuf,
}

impl World {
    /// Makes it, with every system that there are programs for, and waits until all are ready.
    pub async fn start(programs: &Programs) -> Result<Self> {
        Box::pin(Self::start_with(programs, Binaries::beside_current_program()?)).await
    }

    /// The same with other programs of the mesh than those beside this one.
    pub async fn start_with(programs: &Programs, binaries: Binaries) -> Result<Self> {
        // Short, since the world keeps Unix sockets there.
        let folder = tempfile::Builder::new().prefix("hb-").tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let own = std::env::current_exe()?;
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests)?;
        let text = manifests::text(&programs.systems(), &own);
        std::fs::write(manifests.join("bench.yaml"), text)?;
        certificates::write(folder.path())?;
        let config = MeshConfig {
            state_directory: folder.path().join("state"),
            binaries,
            ..MeshConfig::new("bench", &manifests)?
        };
        let mesh = Box::pin(Mesh::start(config)).await.context("the world did not start")?;
        let mut world = Self { sidecars: Vec::new(), mesh: Arc::new(mesh), folder, own };
        for system in programs.systems() {
            for side in Side::BOTH {
                world.set_up(system, side, programs).await?;
            }
        }
        for system in programs.systems() {
            world
                .settle(system)
                .await
                .with_context(|| format!("{} serves nothing", system.title()))?;
        }
        Ok(world)
    }

    /// Ends it in good order.
    pub async fn finish(mut self) -> Result<()> {
        self.sidecars.clear();
        // Its tasks have let go of it once they have ended.
        let deadline = Instant::now() + SHUTDOWN_WITHIN;
        let mut mesh = self.mesh;
        loop {
            match Arc::try_unwrap(mesh) {
                Ok(mesh) => return Ok(mesh.shutdown().await?),
                Err(shared) => mesh = shared,
            }
            ensure!(Instant::now() < deadline, "a sidecar does not end");
            sleep(POLL_PAUSE).await;
        }
    }

    /// Makes load on one system.
    pub async fn load(&self, system: System, shape: Shape, extent: Extent) -> Result<Outcome> {
        let watched = if system.has_proxies() { self.proxies(system).await? } else { Vec::new() };
        let host = system.pod(Side::Server);
        let plan = Plan { host, shape, extent, marker: MARKER.to_owned(), watched };
        let plan = serde_json::to_string(&plan)?;
        let own = self.own.to_string_lossy();
        let words = ["sh", "-c", LOAD_SCRIPT, &own, &plan];
        let pod = system.pod(Side::Client);
        let output = timeout(LOAD_WITHIN, self.mesh.run(&pod, &words, Vec::new())).await;
        let output =
            output.with_context(|| format!("the load on {} never ended", system.title()))??;
        let said = output.stderr_text();
        ensure!(output.code == 0, "the load on {} failed: {}", system.title(), said.trim());
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// What the application has counted.
    pub async fn counts(&self, system: System) -> Result<Counts> {
        let own = self.own.to_string_lossy();
        let output =
            self.mesh.run(&system.pod(Side::Server), &[&own, "counted"], Vec::new()).await?;
        ensure!(output.code == 0, "no counts: {}", output.stderr_text());
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Starts both proxies of a system anew. How long it took from the order to start the client's until it said that it
    /// was ready.
    pub async fn restart(&mut self, system: System) -> Result<Duration> {
        let mut took = Duration::ZERO;
        // The client's last, so that its server is there.
        for side in [Side::Server, Side::Client] {
            let restarting = Box::pin(self.restart_side(system, side));
            took = timeout(RESTART_WITHIN, restarting).await.context("no restart in time")??;
        }
        self.settle(system).await?;
        Ok(took)
    }

    /// Ends Heddle's proxies in good order, and waits until they are gone: ending the world would not wait for what
    /// valgrind, or a build that is to be profiled, writes at the end.
    pub async fn end_heddle(&self) -> Result<()> {
        let pods = Side::BOTH.map(|side| System::Heddle.pod(side));
        for pod in &pods {
            self.mesh.stop(Target::Proxy(pod.clone()), Signal::Terminate).await?;
        }
        let gone = async {
            for pod in &pods {
                while self.heddle_proxy(pod).await.is_ok() {
                    sleep(POLL_PAUSE).await;
                }
            }
        };
        timeout(LOAD_WITHIN, gone).await.context("a proxy does not end")
    }

    async fn restart_side(&mut self, system: System, side: Side) -> Result<Duration> {
        let pod = system.pod(side);
        if system == System::Heddle {
            self.mesh.stop(Target::Proxy(pod.clone()), Signal::Kill).await?;
            while self.heddle_proxy(&pod).await.is_ok() {
                sleep(POLL_PAUSE).await;
            }
            let began = Instant::now();
            self.mesh.start_again(Target::Proxy(pod.clone())).await?;
            self.wait_ready(&pod, HEDDLE_ADMIN_PORT).await?;
            return Ok(began.elapsed());
        }
        let sidecar = self.sidecars.iter_mut().find(|sidecar| sidecar.pod == pod);
        let sidecar = sidecar.with_context(|| format!("{pod} has no proxy"))?;
        sidecar.stop().await;
        while self.mesh.http_get(&pod, READY_PORT, "/ready").await.is_ok() {
            sleep(POLL_PAUSE).await;
        }
        let began = Instant::now();
        sidecar.start(Arc::clone(&self.mesh));
        self.wait_ready(&pod, READY_PORT).await?;
        Ok(began.elapsed())
    }

    /// Redirect and proxy of one side, where this is not the world's own doing.
    async fn set_up(&mut self, system: System, side: Side, programs: &Programs) -> Result<()> {
        let peer = match side {
            Side::Client => self.address(&system.pod(Side::Server)).await?,
            Side::Server => Ipv4Addr::LOCALHOST,
        };
        let folder = self.folder.path();
        let argv = match system {
            System::NoMesh | System::Heddle => return Ok(()),
            System::Envoy => envoy::command(programs.envoy()?, side, peer, folder)?,
            System::Haproxy => haproxy::command(programs.haproxy()?, side, peer, folder)?,
            System::BareLoop => self.relay_command(side, peer),
        };
        let pod = system.pod(side);
        let rules = redirect::rules(side, peer).into_bytes();
        let nft = programs.nft()?.to_string_lossy();
        let output = self.mesh.run_privileged(&pod, &[&nft, "-f", "-"], rules).await?;
        ensure!(output.code == 0, "no redirect in {pod}: {}", output.stderr_text());
        let pid_file = folder.join(format!("{pod}.pid"));
        let mut sidecar = Sidecar::new(pod.clone(), argv, pid_file);
        sidecar.start(Arc::clone(&self.mesh));
        self.sidecars.push(sidecar);
        let ready = timeout(RESTART_WITHIN, self.wait_ready(&pod, READY_PORT)).await;
        if !matches!(ready, Ok(Ok(()))) {
            let said = self.sidecars.last_mut().map(Sidecar::last_words).unwrap_or_default();
            anyhow::bail!("the proxy of {pod} is not ready: {said}");
        }
        Ok(())
    }

    fn relay_command(&self, side: Side, peer: Ipv4Addr) -> Vec<String> {
        let certificates = format!("--certificates={}", self.folder.path().display());
        let own = self.own.to_string_lossy().into_owned();
        let (side, peer) = (format!("--side={}", side.name()), format!("--peer={peer}"));
        vec![own, "relay".to_owned(), side, certificates, peer]
    }

    /// Waits until requests get through.
    async fn settle(&self, system: System) -> Result<()> {
        let waiting = self.mesh.wait_ready(RESTART_WITHIN).await?;
        ensure!(waiting.is_empty(), "not ready: {waiting:?}");
        let deadline = Instant::now() + RESTART_WITHIN;
        loop {
            let probe =
                self.load(system, Shape::Http1 { connections: 1 }, Extent::Requests(1)).await;
            match probe {
                Ok(outcome) if outcome.failed == 0 => return Ok(()),
                Ok(outcome) if Instant::now() > deadline => {
                    anyhow::bail!("{}", outcome.first_failure.unwrap_or_default())
                }
                Err(error) if Instant::now() > deadline => return Err(error),
                Ok(_) | Err(_) => sleep(POLL_PAUSE).await,
            }
        }
    }

    async fn wait_ready(&self, pod: &str, port: u16) -> Result<()> {
        loop {
            let answer = self.mesh.http_get(pod, port, "/ready").await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            sleep(READY_PAUSE).await;
        }
    }

    /// The process ids inside of the world of the client's and the server's proxy.
    pub async fn proxies(&self, system: System) -> Result<Vec<u32>> {
        let mut pids = Vec::new();
        for side in Side::BOTH {
            let pod = system.pod(side);
            let sidecar = self.sidecars.iter().find(|sidecar| sidecar.pod == pod);
            pids.push(match sidecar {
                Some(sidecar) => sidecar.pid()?,
                None => self.heddle_proxy(&pod).await?,
            });
        }
        Ok(pids)
    }

    async fn heddle_proxy(&self, pod: &str) -> Result<u32> {
        let status = self.mesh.status().await?;
        let workload = status.workload(pod).with_context(|| format!("no {pod} here"))?;
        let proxy = workload.processes.iter().find(|process| process.name == "proxy");
        proxy.and_then(|proxy| proxy.pid).with_context(|| format!("{pod} has no proxy"))
    }

    async fn address(&self, pod: &str) -> Result<Ipv4Addr> {
        let status = self.mesh.status().await?;
        let workload = status.workload(pod).with_context(|| format!("no {pod} here"))?;
        let v4 = workload.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        v4.with_context(|| format!("{pod} has no IPv4 address"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder that is removed with the world.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// As many connections as the largest scenario has need two of these each in a proxy. A machine that allows fewer says so
/// by failing connections.
const LOAD_SCRIPT: &str =
    r#"ulimit -n 16384 2>/dev/null || ulimit -n "$(ulimit -H -n)"; exec "$0" load "$1""#;
/// What every request carries, and no packet on the wire may.
const MARKER: &str = "heddle-bench-in-plain-text";
/// Where `heddle-local` puts its proxies' admin server.
const HEDDLE_ADMIN_PORT: u16 = heddle_local::workload::sidecar::ADMIN_PORT;
const LOAD_WITHIN: Duration = Duration::from_secs(60);
const RESTART_WITHIN: Duration = Duration::from_secs(20);
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(5);
const POLL_PAUSE: Duration = Duration::from_millis(20);
/// Well below what the fastest takes to start.
const READY_PAUSE: Duration = Duration::from_micros(500);
