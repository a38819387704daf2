//! The process that a node consists of: it has namespaces of its own, starts everything in them, looks after it and takes
//! commands about it.

pub mod mounts;
pub mod network;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use heddle_runtime::tasks::Tasks;
use nix::sched::{CloneFlags, unshare};
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::component::{Component, Plan, Ready};
use crate::control::{self, ComponentStatus, Phase, Request, Response};
use crate::directory::Directory;
use crate::image;
use crate::options::Options;
use crate::worker::Worker;
use crate::{addresses, cgroups, control_plane};

/// Enters the namespaces of a node; to be called before there is a second thread.
pub fn enter(directory: &Directory, number: u8) -> Result<()> {
    let kinds = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(kinds).context("make a node's namespaces")?;
    heddle_local::namespaces::set_host_name(&format!("node{number}"))
        .context("set the host name")?;
    cgroups::create(directory, number)?;
    mounts::make(directory, number)?;
    network::connect(number)
}

/// Runs a node until it is killed.
pub async fn run(directory: Directory, number: u8, options: Options) -> Result<()> {
    let tasks = Tasks::new();
    let listener = UnixListener::bind(directory.node_socket(number))?;
    let (sender, mut requests) = mpsc::channel(REQUESTS_LIMIT);
    tasks.spawn("node.control", serve(listener, sender, tasks.clone()));
    let mut node = Node {
        logs: directory.logs().join(format!("node{number}")),
        worker: Worker { directory, programs: options.programs, number },
        images: options.images,
        components: Vec::new(),
    };
    std::fs::create_dir_all(&node.logs)?;
    // Boxed, since all the starting of everything is in it.
    let started = Box::pin(node.start());
    let mut phase = begin(started, &mut requests).await;
    let mut round = tokio::time::interval(ROUND);
    loop {
        tokio::select! {
            received = requests.recv() => {
                let Some((request, answer)) = received else { return Ok(()) };
                let response = node.answer(request, &phase).await;
                // Whoever asked may have gone.
                let _ = answer.send(response);
            }
            _ = round.tick() => {
                // One that failed to start is left as it is, so that one sees what is the matter.
                let Phase::Ready = phase else { continue };
                for component in &mut node.components {
                    if let Err(error) = component.look_after() {
                        phase = Phase::Failed { reason: format!("{error:#}") };
                    }
                }
            }
        }
    }
}

type Asked = (Request, oneshot::Sender<Response>);

/// Answers with "starting" until the start has ended, one way or the other.
async fn begin(
    started: impl Future<Output = Result<()>>,
    requests: &mut mpsc::Receiver<Asked>,
) -> Phase {
    tokio::pin!(started);
    loop {
        tokio::select! {
            outcome = &mut started => return match outcome {
                Ok(()) => Phase::Ready,
                Err(error) => Phase::Failed { reason: format!("{error:#}") },
            },
            Some((_, answer)) = requests.recv() => {
                let _ = answer.send(Response::Status { phase: Phase::Starting, components: Vec::new() });
            }
        }
    }
}

struct Node {
    logs: PathBuf,
    worker: Worker,
    images: Vec<PathBuf>,
    components: Vec<Component>,
}

impl Node {
    async fn start(&mut self) -> Result<()> {
        let (control_plane, containerd) = tokio::join!(self.control_plane(), self.containerd());
        self.components.extend(control_plane?);
        self.components.push(containerd?);
        let kubelet = self.worker.kubelet(open_files_limit())?;
        let (kubelet, kube_proxy) =
            tokio::join!(self.start_one(kubelet), self.start_one(self.worker.kube_proxy()?));
        self.components.extend([kubelet?, kube_proxy?]);
        Ok(())
    }

    /// Starts the control plane on the node that has it, and waits for it on the others.
    async fn control_plane(&self) -> Result<Vec<Component>> {
        let Worker { directory, programs, number } = &self.worker;
        if *number != addresses::FIRST_NODE {
            crate::bootstrap::api_server_is_ready(&self.worker.kubeconfig()).await?;
            return Ok(Vec::new());
        }
        let etcd = self.start_one(control_plane::etcd()).await?;
        let api_server = self.start_one(control_plane::api_server(programs, directory)).await?;
        let (controllers, scheduler, dns) = tokio::join!(
            self.start_one(control_plane::controller_manager(programs, directory)),
            self.start_one(control_plane::scheduler(programs, directory)),
            self.start_one(self.dns()?),
        );
        Ok(vec![etcd, api_server, controllers?, scheduler?, dns?])
    }

    async fn containerd(&self) -> Result<Component> {
        let containerd = self.start_one(self.worker.containerd()?).await?;
        for image in &self.images {
            image::import(image).await?;
        }
        Ok(containerd)
    }

    /// The cluster's name server: this very program.
    fn dns(&self) -> Result<Plan> {
        let listen = (addresses::of_node(self.worker.number), crate::dns::PORT).into();
        Ok(Plan {
            name: "dns",
            program: "/proc/self/exe".into(),
            arguments: vec![
                "dns".to_owned(),
                format!("--listen={listen}"),
                format!("--kubeconfig={}", self.worker.directory.inner_kubeconfig().display()),
            ],
            ready: Ready::Listens(listen),
        })
    }

    async fn start_one(&self, plan: Plan) -> Result<Component> {
        let name = plan.name;
        let started = Box::pin(Component::start(plan, &self.logs)).await;
        started.with_context(|| format!("start {name} on {}", self.worker.name()))
    }

    async fn answer(&mut self, request: Request, phase: &Phase) -> Response {
        let outcome = match &request {
            Request::Status => Ok(()),
            Request::Stop { component } => match self.find(component) {
                Ok(component) => component.stop().await,
                Err(error) => Err(error),
            },
            Request::Start { component } => match self.find(component) {
                Ok(component) => Box::pin(component.resume()).await,
                Err(error) => Err(error),
            },
            Request::Freeze { component } => {
                self.find(component).and_then(|component| component.freeze())
            }
            Request::Thaw { component } => {
                self.find(component).and_then(|component| component.thaw())
            }
        };
        match outcome {
            Ok(()) => Response::Status { phase: phase.clone(), components: self.status() },
            Err(error) => Response::Refused { reason: format!("{error:#}") },
        }
    }

    fn find(&mut self, name: &str) -> Result<&mut Component> {
        let names: Vec<&str> = self.components.iter().map(Component::name).collect();
        let message = format!("no component {name:?} here; there are {}", names.join(", "));
        self.components.iter_mut().find(|component| component.name() == name).context(message)
    }

    fn status(&self) -> Vec<ComponentStatus> {
        let status = |component: &Component| ComponentStatus {
            name: component.name().to_owned(),
            running: component.process().is_some(),
            restarts: component.restarts(),
        };
        self.components.iter().map(status).collect()
    }
}

async fn serve(listener: UnixListener, requests: mpsc::Sender<Asked>, tasks: Tasks) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => tasks.spawn("node.connection", converse(stream, requests.clone())),
            Err(error) => {
                eprintln!("cannot accept on the node's socket: {error}");
                tokio::time::sleep(ROUND).await;
            }
        }
    }
}

/// Answers the one request of a connection.
async fn converse(mut stream: UnixStream, requests: mpsc::Sender<Asked>) {
    let mut line = String::new();
    if BufReader::new(&mut stream).read_line(&mut line).await.is_err() {
        return;
    }
    let response = match control::read_request(&line) {
        Ok(request) => {
            let (answer, answered) = oneshot::channel();
            if requests.send((request, answer)).await.is_err() {
                return;
            }
            let Ok(response) = answered.await else { return };
            response
        }
        Err(error) => Response::Refused { reason: format!("{error:#}") },
    };
    // Whoever asked may have gone.
    let _ = stream.write_all(control::write(&response).as_bytes()).await;
}

/// As many open files as this machine lets a process have.
fn open_files_limit() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES)
}

const REQUESTS_LIMIT: usize = 16;
const ROUND: Duration = Duration::from_secs(1);
/// The kubelet's own default.
const OPEN_FILES: u64 = 1_000_000;
