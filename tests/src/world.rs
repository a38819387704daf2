//! A mesh in a temporary directory, made from inline manifests. Prints the ends of its logs when a test
//! ends without having finished it.

mod wrapped;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_local::mesh::{ControlPlane, Mesh, MeshConfig};
use heddle_local::protocol::Output;
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::manifest::Service;
use crate::program;
use crate::status::Status;
use crate::wait;

/// What a world is made from.
#[derive(Clone, Debug)]
pub struct Plan {
    name: String,
    files: Vec<(String, String)>,
    leaf_lifetime: Duration,
    control_plane: ControlPlane,
    proxy_arguments: Vec<String>,
    control_plane_arguments: Vec<String>,
    has_later_proxies: bool,
}

impl Plan {
    /// A mesh without anything in it.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            files: Vec::new(),
            leaf_lifetime: Duration::from_secs(24 * 60 * 60),
            control_plane: ControlPlane::Run,
            proxy_arguments: Vec::new(),
            control_plane_arguments: Vec::new(),
            has_later_proxies: false,
        }
    }

    /// A file of manifests.
    #[must_use]
    pub fn file(mut self, name: &str, text: impl Into<String>) -> Self {
        self.files.push((name.to_owned(), text.into()));
        self
    }

    /// How long certificates live.
    #[must_use]
    pub fn leaf_lifetime(mut self, lifetime: Duration) -> Self {
        self.leaf_lifetime = lifetime;
        self
    }

    /// More arguments of every proxy.
    #[must_use]
    pub fn proxies(mut self, arguments: &[&str]) -> Self {
        self.proxy_arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// More arguments of the control plane.
    #[must_use]
    pub fn control_plane(mut self, arguments: &[&str]) -> Self {
        let more = arguments.iter().map(|argument| (*argument).to_owned());
        self.control_plane_arguments.extend(more);
        self
    }

    /// Proxies of pods that come later can have arguments of their own: [`World::later_proxies`].
    #[must_use]
    pub fn later_proxies(mut self) -> Self {
        self.has_later_proxies = true;
        self
    }

    /// The same applications without a mesh.
    #[must_use]
    pub fn without_mesh(mut self) -> Self {
        self.control_plane = ControlPlane::None;
        self
    }

    /// Waits for room, then makes it and waits until every workload is ready.
    pub async fn start(self) -> Result<World> {
        let place = PLACES.acquire().await?;
        let binaries = program::binaries()?;
        // Short, since the world keeps Unix sockets there.
        let temporary = tempfile::Builder::new().prefix("hd-").tempdir()?;
        open_to_everyone(temporary.path())?;
        let directory = temporary.path().join("manifests");
        std::fs::create_dir(&directory)?;
        std::fs::create_dir(temporary.path().join("staging"))?;
        for (name, text) in &self.files {
            std::fs::write(directory.join(name), text)?;
        }
        let binaries = match self.has_later_proxies {
            true => wrapped::wrap(&binaries, &temporary.path().join(WRAPPED))?,
            false => binaries,
        };
        let config = MeshConfig {
            state_directory: temporary.path().join("state"),
            binaries,
            leaf_lifetime: self.leaf_lifetime,
            control_plane: self.control_plane,
            proxy_arguments: self.proxy_arguments,
            control_plane_arguments: self.control_plane_arguments,
            ..MeshConfig::new(&self.name, &directory)?
        };
        let mut world = World { mesh: None, temporary, name: self.name, _place: place };
        let mesh = Box::pin(Mesh::start(config)).await;
        world.mesh = Some(mesh.with_context(|| format!("the world {} did not start", world.name))?);
        if self.control_plane == ControlPlane::Run {
            world.endpoints_are_known().await?;
        }
        Ok(world)
    }
}

/// A running world. Ends when dropped; `finish` says that the test was content with it.
#[derive(Debug)]
pub struct World {
    mesh: Option<Mesh>,
    temporary: TempDir,
    name: String,
    _place: SemaphorePermit<'static>,
}

impl World {
    /// The mesh itself.
    pub fn mesh(&self) -> Result<&Mesh> {
        self.mesh.as_ref().context("the world has ended")
    }

    /// A path for a file of the test's own, which is removed with the world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }

    /// Where the world keeps its files.
    pub fn state_directory(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes a manifest, as a whole and at once.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let staged = self.path("staging").join(name);
        std::fs::write(&staged, text)?;
        Ok(std::fs::rename(staged, self.path("manifests").join(name))?)
    }

    /// Removes a manifest.
    pub fn remove(&self, name: &str) -> Result<()> {
        Ok(std::fs::remove_file(self.path("manifests").join(name))?)
    }

    /// More arguments of every proxy that is started from now on.
    pub fn later_proxies(&self, arguments: &[&str]) -> Result<()> {
        wrapped::give(&self.path(WRAPPED), arguments)
    }

    /// A workload's IPv4 address.
    pub async fn address(&self, workload: &str) -> Result<IpAddr> {
        self.addresses(workload).await?.into_iter().find(IpAddr::is_ipv4).context("no IPv4 address")
    }

    /// All addresses of a workload.
    pub async fn addresses(&self, workload: &str) -> Result<Vec<IpAddr>> {
        let status = self.mesh()?.status().await?;
        let workload = status.workload(workload).with_context(|| format!("no {workload} here"))?;
        Ok(workload.addresses.clone())
    }

    /// The UID of a workload's pod.
    pub async fn pod_uid(&self, workload: &str) -> Result<String> {
        let status = self.mesh()?.status().await?;
        let workload = status.workload(workload).with_context(|| format!("no {workload} here"))?;
        Ok(workload.pod_uid.clone())
    }

    /// The addresses of a service.
    pub async fn service_addresses(&self, service: &str) -> Result<Vec<IpAddr>> {
        let status = self.mesh()?.status().await?;
        let service = status.service(service).with_context(|| format!("no service {service}"))?;
        Ok(service.addresses.clone())
    }

    /// Runs a program beside a workload's application, to its end.
    pub async fn run<S: AsRef<str>>(&self, workload: &str, argv: &[S]) -> Result<Output> {
        self.run_with_input(workload, argv, Vec::new()).await
    }

    /// The same, with something on its standard input.
    pub async fn run_with_input<S: AsRef<str>>(
        &self,
        workload: &str,
        argv: &[S],
        input: Vec<u8>,
    ) -> Result<Output> {
        let run = self.mesh()?.run(workload, argv, input);
        let words: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
        tokio::time::timeout(RUN_LIMIT, run)
            .await
            .with_context(|| format!("in {workload}: {words:?} takes more than {RUN_LIMIT:?}"))?
            .with_context(|| format!("in {workload}: {words:?}"))
    }

    /// The same, and it must end well; its standard output.
    pub async fn ask<S: AsRef<str>>(&self, workload: &str, argv: &[S]) -> Result<String> {
        let output = self.run(workload, argv).await?;
        let words: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
        ensure!(
            output.code == 0,
            "in {workload}: {words:?} ended with {}: {}{}",
            output.code,
            output.stdout_text(),
            output.stderr_text()
        );
        Ok(output.stdout_text())
    }

    /// What curl prints of a URL; it must end well.
    pub async fn curl(&self, workload: &str, arguments: &[&str]) -> Result<String> {
        self.ask(workload, &curl_command(arguments)).await
    }

    /// curl's whole outcome, good or bad.
    pub async fn try_curl(&self, workload: &str, arguments: &[&str]) -> Result<Output> {
        self.run(workload, &curl_command(arguments)).await
    }

    /// The test is content: ends the world in good order.
    pub async fn finish(mut self) -> Result<()> {
        match self.mesh.take() {
            Some(mesh) => Ok(mesh.shutdown().await?),
            None => Ok(()),
        }
    }

    /// Waits until the control plane has published the endpoints of all workloads, which the runner wrote
    /// before it called them ready: a service that is written after that is published no earlier.
    async fn endpoints_are_known(&self) -> Result<()> {
        self.write(
            "settled.yaml",
            &Service::new("settled").without_selector().port(80, 80).to_string(),
        )?;
        wait::until("the endpoints are published", Duration::from_secs(10), async || {
            Status::read(self).await?.object("Service", "settled").map(drop)
        })
        .await
    }

    fn print_logs(&self) {
        eprintln!("\n==== the world {} was not finished; the ends of its logs:", self.name);
        for log in logs_below(&self.state_directory().join("logs")) {
            let bytes = std::fs::read(&log).unwrap_or_default();
            let tail = bytes.get(bytes.len().saturating_sub(LOG_TAIL_BYTES)..).unwrap_or_default();
            eprintln!("---- {}\n{}", log.display(), String::from_utf8_lossy(tail).trim());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The logs go with the mesh, so they come first.
        if self.mesh.is_some() {
            self.print_logs();
        }
        drop(self.mesh.take());
    }
}

fn curl_command(arguments: &[&str]) -> Vec<String> {
    let fixed = ["curl", "--silent", "--show-error", "--max-time", "20"];
    fixed.iter().chain(arguments).map(|word| (*word).to_owned()).collect()
}

/// Workloads may run as other users, whose files are here too.
fn open_to_everyone(directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?)
}

fn logs_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(logs_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// So many worlds at a time: more would share two cores, and say more about those than about Heddle.
static PLACES: Semaphore = Semaphore::const_new(2);
/// Where programs are, if they are not where they were built.
const WRAPPED: &str = "programs";
const LOG_TAIL_BYTES: usize = 6 * 1024;
const RUN_LIMIT: Duration = Duration::from_secs(180);
