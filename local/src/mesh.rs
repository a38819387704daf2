//! A world as its owner holds it: start it, ask it, end it. The world itself runs in processes of its own.

pub(crate) mod world_process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::BufReader;
use tokio::net::UnixStream;

use crate::protocol::{
    self, Announcement, HttpAnswer, LineError, NotReady, Output, Request, Response, RunRequest,
    Signal, Target,
};
use crate::state_directory::{Occupant, StateDirectory};
use crate::status::{LocalStatus, ProcessStatus};
use world_process::{World, absolute, check, log_tail, prepare};

/// A mesh on this machine.
///
/// Unless it was started detached it ends with this value, and also when the process that holds it dies.
#[derive(Debug)]
pub struct Mesh {
    state: StateDirectory,
    /// `None`: it was started by somebody else, or detached.
    owned: Option<World>,
}

/// What a world is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshConfig {
    /// What it is called: also the host name in the bridge's namespace.
    pub name: String,
    /// The Kubernetes YAML to run, which is watched for changes.
    pub directory: PathBuf,
    /// Where to keep everything else; made and removed by the world. Short, since it holds Unix sockets.
    pub state_directory: PathBuf,
    /// The mesh's programs.
    pub binaries: Binaries,
    /// How long certificates last; the control plane refuses less than 30 seconds.
    pub leaf_lifetime: Duration,
    /// The trust domain of every identity.
    pub trust_domain: String,
    /// Whether the world goes on without the process that started it.
    pub detach: bool,
    /// Whether there is a mesh in it.
    pub control_plane: ControlPlane,
    /// More arguments of every `heddle-proxy run`, such as `--body-idle-timeout=1m`.
    pub proxy_arguments: Vec<String>,
    /// More arguments of `heddle-control-plane`, such as `--log=debug`.
    pub control_plane_arguments: Vec<String>,
    /// How long [`Mesh::start`] waits for the workloads to be ready.
    pub ready_within: Duration,
}

/// Where the mesh's programs are: `heddle-local`, `heddle-proxy` and `heddle-control-plane` in one directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binaries {
    /// The directory, which is also the first in the `PATH` of every workload.
    pub directory: PathBuf,
}

/// Whether a world has a mesh in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlPlane {
    /// Run the control plane, and a proxy beside each workload.
    Run,
    /// Run neither: the same applications on the same network without a mesh, to compare with. The names of services
    /// stand for the addresses of their ready pods, since nobody is there to answer at a virtual address.
    None,
}

impl MeshConfig {
    /// A world with the usual settings, its files in the usual place and the mesh's programs beside the current one.
    ///
    /// Fails when this program cannot tell where it is.
    pub fn new(name: &str, directory: impl Into<PathBuf>) -> std::io::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            directory: directory.into(),
            state_directory: crate::state_directory::default_path(name),
            binaries: Binaries::beside_current_program()?,
            leaf_lifetime: DEFAULT_LEAF_LIFETIME,
            trust_domain: DEFAULT_TRUST_DOMAIN.to_owned(),
            detach: false,
            control_plane: ControlPlane::Run,
            proxy_arguments: Vec::new(),
            control_plane_arguments: Vec::new(),
            ready_within: DEFAULT_READY_WITHIN,
        })
    }
}

impl Binaries {
    /// The directory of the current program; of a test, the one above `deps`.
    pub fn beside_current_program() -> std::io::Result<Self> {
        let program = std::env::current_exe()?;
        let mut directory = program.parent().unwrap_or(Path::new("/")).to_owned();
        if directory.ends_with("deps") {
            directory.pop();
        }
        Ok(Self { directory })
    }

    /// The path of one program.
    pub fn path(&self, program: &str) -> PathBuf {
        self.directory.join(program)
    }
}

impl Mesh {
    /// Starts a world and waits until every workload in it is ready, and until its control plane answers.
    ///
    /// Fails, and leaves nothing behind, when the world cannot be made or one of them is not ready in time.
    pub async fn start(config: MeshConfig) -> Result<Self, StartError> {
        let config = absolute(config)?;
        check(&config)?;
        let state = StateDirectory::new(&config.state_directory);
        let lock = prepare(&config, &state)?;
        let mut world = World::spawn(&config, &state, lock)?;
        let announcement = world.announcement().await;
        let mesh = Self { state, owned: Some(world) };
        match announcement? {
            Announcement::Listening => {}
            Announcement::Forbidden { reason } => return Err(StartError::Forbidden { reason }),
            Announcement::Failed { reason } => return Err(StartError::World { reason }),
        }
        let waiting = mesh.wait_ready(config.ready_within).await?;
        if !waiting.is_empty() {
            return Err(StartError::NotReady(Waiting(waiting)));
        }
        if config.control_plane == ControlPlane::Run {
            mesh.wait_control_plane(config.ready_within).await?;
        }
        Ok(if config.detach { mesh.let_go() } else { mesh })
    }

    /// Holds a world that runs already; it does not end with this value.
    pub async fn attach(state_directory: impl Into<PathBuf>) -> Result<Self, RequestError> {
        let mesh = Self { state: StateDirectory::new(state_directory), owned: None };
        mesh.state.check_private().map_err(|source| RequestError::NoWorld {
            path: mesh.state.path().to_owned(),
            source,
        })?;
        mesh.status().await?;
        Ok(mesh)
    }

    /// Where the world keeps its files: see [`StateDirectory`] for what is where.
    pub fn state_directory(&self) -> &Path {
        self.state.path()
    }

    /// The paths of the world's files.
    pub fn files(&self) -> &StateDirectory {
        &self.state
    }

    /// How everything is.
    pub async fn status(&self) -> Result<LocalStatus, RequestError> {
        let response = self.request(&Request::Status).await?;
        let Response::Status(status) = response else {
            return Err(RequestError::unexpected(&response));
        };
        Ok(status)
    }

    /// Waits until every workload is ready, and returns those that are not within that time.
    pub async fn wait_ready(&self, within: Duration) -> Result<Vec<NotReady>, RequestError> {
        let response = self.request(&Request::WaitReady { within }).await?;
        let Response::Readiness { waiting } = response else {
            return Err(RequestError::unexpected(&response));
        };
        Ok(waiting)
    }

    /// Runs a process beside the application of `workload` (`name`, `namespace/name`), as that application runs: in its
    /// namespaces, as its user, without capabilities. In [`protocol::BRIDGE`] it keeps the world's capabilities.
    ///
    /// Dropping the future kills the process.
    pub async fn run<S: AsRef<str>>(
        &self,
        workload: &str,
        argv: &[S],
        stdin: Vec<u8>,
    ) -> Result<Output, RequestError> {
        self.run_in(workload, argv, stdin, workload == protocol::BRIDGE).await
    }

    /// As [`Mesh::run`], with the world's capabilities and as its root: to look at a workload from outside of its limits.
    pub async fn run_privileged<S: AsRef<str>>(
        &self,
        workload: &str,
        argv: &[S],
        stdin: Vec<u8>,
    ) -> Result<Output, RequestError> {
        self.run_in(workload, argv, stdin, true).await
    }

    /// `GET` from the bridge's namespace to a workload's own address.
    pub async fn http_get(
        &self,
        workload: &str,
        port: u16,
        path: &str,
    ) -> Result<HttpAnswer, RequestError> {
        let (workload, path) = (workload.to_owned(), path.to_owned());
        let response = self.request(&Request::HttpGet { workload, port, path }).await?;
        let Response::Http(answer) = response else {
            return Err(RequestError::unexpected(&response));
        };
        Ok(answer)
    }

    /// Sends a signal to a process, which is not restarted when it ends of it. Returns once the signal is sent.
    pub async fn stop(&self, target: Target, signal: Signal) -> Result<(), RequestError> {
        self.request_done(&Request::Stop { target, signal }).await
    }

    /// Starts a process that was stopped.
    pub async fn start_again(&self, target: Target) -> Result<(), RequestError> {
        self.request_done(&Request::StartAgain { target }).await
    }

    /// Ends the world in good order and returns when nothing is left of it.
    pub async fn shutdown(mut self) -> Result<(), RequestError> {
        let outcome = self.request_done(&Request::Shutdown).await;
        match self.owned.take() {
            // Ends it the hard way if the request has failed.
            Some(world) => drop(world),
            None => self.wait_until_gone().await,
        }
        outcome
    }

    /// Without a meshed workload nothing else has waited for it.
    async fn wait_control_plane(&self, within: Duration) -> Result<(), StartError> {
        let socket = self.state.admin_socket();
        let listens = async {
            while UnixStream::connect(&socket).await.is_err() {
                tokio::time::sleep(POLL_PAUSE).await;
            }
        };
        if tokio::time::timeout(within, listens).await.is_ok() {
            return Ok(());
        }
        let ProcessStatus { name, state, log, .. } = self.status().await?.control_plane;
        let state = format!("{state}, but does not answer at {}", socket.display());
        let waiting = NotReady { workload: name, state, log: log_tail(&log) };
        Err(StartError::NotReady(Waiting(vec![waiting])))
    }

    async fn wait_until_gone(&self) {
        while matches!(self.state.occupant(), Ok(Occupant::World)) {
            tokio::time::sleep(POLL_PAUSE).await;
        }
        // Its process may have been killed before it had removed them.
        if let Err(error) = self.state.remove() {
            tracing::warn!(%error, path = %self.state.path().display(), "state directory not removed");
        }
    }

    async fn run_in<S: AsRef<str>>(
        &self,
        workload: &str,
        argv: &[S],
        stdin: Vec<u8>,
        privileged: bool,
    ) -> Result<Output, RequestError> {
        let argv = argv.iter().map(|word| word.as_ref().to_owned()).collect();
        let request = RunRequest { workload: workload.to_owned(), argv, stdin, privileged };
        let response = self.request(&Request::Run(request)).await?;
        let Response::Output(output) = response else {
            return Err(RequestError::unexpected(&response));
        };
        Ok(output)
    }

    async fn request_done(&self, request: &Request) -> Result<(), RequestError> {
        let response = self.request(request).await?;
        let Response::Done = response else {
            return Err(RequestError::unexpected(&response));
        };
        Ok(())
    }

    async fn request(&self, request: &Request) -> Result<Response, RequestError> {
        let path = self.state.control_socket();
        let stream = UnixStream::connect(&path)
            .await
            .map_err(|source| RequestError::NoWorld { path, source })?;
        let mut stream = BufReader::new(stream);
        protocol::write_line(&mut stream, request).await?;
        let response = protocol::read_line(&mut stream).await?;
        if let Response::Failed { reason } = response {
            return Err(RequestError::Refused(reason));
        }
        Ok(response)
    }

    fn let_go(mut self) -> Self {
        if let Some(mut world) = self.owned.take() {
            world.child = None;
        }
        self
    }
}

/// Why there is no world.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory of YAML cannot be read.
    #[error("cannot read the directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The mesh's programs are not all there.
    #[error("{missing} not found in {}; `{build}` builds what is missing", directory.display())]
    MissingBinaries {
        /// Where they were looked for.
        directory: PathBuf,
        /// Their names.
        missing: String,
        /// The command that builds them.
        build: String,
    },
    /// The world's own files cannot be written.
    #[error("cannot use the state directory {}", path.display())]
    StateDirectory {
        /// The directory, or the file in it.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A Unix socket's path has little room.
    #[error("the state directory {} is too long for the path of a Unix socket; choose a shorter one", .0.display())]
    PathTooLong(PathBuf),
    /// Two worlds cannot share a state directory.
    #[error("a mesh runs already with its state in {}; `meshctl local down` ends it", .0.display())]
    AlreadyRunning(PathBuf),
    /// It is not removed, since nobody knows what it is.
    #[error("{} holds files that are not of a local mesh; name another state directory", .0.display())]
    NotAWorld(PathBuf),
    /// The kernel does not let this user make namespaces.
    #[error("{}", crate::mesh::forbidden_text(reason))]
    Forbidden {
        /// What it refused.
        reason: String,
    },
    /// The program does not start.
    #[error("cannot start {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The world did not come up.
    #[error("the local mesh did not start: {reason}")]
    World {
        /// What it said.
        reason: String,
    },
    /// Some workloads are not ready.
    #[error("not ready in time:{0}")]
    NotReady(Waiting),
    /// The world does not answer.
    #[error("the local mesh does not answer")]
    Request(#[from] RequestError),
}

/// Workloads that are not ready, one per line.
#[derive(Debug)]
pub struct Waiting(pub Vec<NotReady>);

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for NotReady { workload, state, log } in &self.0 {
            write!(f, "\n  {workload}: {state}")?;
            for line in log.lines() {
                write!(f, "\n    | {line}")?;
            }
        }
        Ok(())
    }
}

fn forbidden_text(reason: &str) -> String {
    format!(
        "this user may not make the namespaces that a local mesh lives in: {reason}\n\
         To allow it, as root, whichever of these exists on this machine:\n  \
         sysctl -w user.max_user_namespaces=15000\n  \
         sysctl -w kernel.unprivileged_userns_clone=1\n  \
         sysctl -w kernel.apparmor_restrict_unprivileged_userns=0\n\
         In a container, give it the privilege to make user namespaces. Or run it as root."
    )
}

/// Why a world did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nobody listens.
    #[error("no local mesh answers at {}", path.display())]
    NoWorld {
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The conversation broke off.
    #[error("the conversation with the local mesh broke off")]
    Conversation(#[from] LineError),
    /// The world says why not.
    #[error("{0}")]
    Refused(String),
    /// An answer to another question.
    #[error("an unexpected answer of the local mesh: {0}")]
    Unexpected(String),
}

impl RequestError {
    fn unexpected(response: &Response) -> Self {
        Self::Unexpected(format!("{response:?}"))
    }
}

/// As long as Kubernetes' own kubelet certificates would be short; see docs/adr on identity.
const DEFAULT_LEAF_LIFETIME: Duration = Duration::from_hours(24);
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";
/// Generous: a slow machine under load starts a dozen processes.
const DEFAULT_READY_WITHIN: Duration = Duration::from_mins(1);
const POLL_PAUSE: Duration = Duration::from_millis(5);
