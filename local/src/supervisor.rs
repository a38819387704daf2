//! Runs a world: follows the directory, starts and ends workloads, and keeps the control plane's view of them true. It
//! plays API server, kubelet and endpoint controller. One task decides everything; see [`Supervisor::serve`].

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use heddle_runtime::logging::{Chain, Format};
use heddle_runtime::signals;
use heddle_runtime::tasks::Tasks;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::captured;
use crate::confine::Keep;
use crate::control::{self, Ask, Desk};
use crate::init::take_all_signals;
use crate::manifests::endpoint_slice::{self, Candidate};
use crate::manifests::hosts::{NamedService, hosts_file};
use crate::manifests::pod::{PodPlan, RestartPolicy, ending};
use crate::manifests::{Manifests, Reading, documents};
use crate::mirror::{Mirror, scan};
use crate::namespaces;
use crate::network::Bridge;
use crate::process::{Plan, Process};
use crate::protocol::{Announcement, BRIDGE, Output, RunRequest, Target};
use crate::settings::{Program, Settings};
use crate::state_directory::StateDirectory;
use crate::status::{LocalStatus, ProcessStatus, ServicePortStatus, ServiceStatus, WorkloadStatus};
use crate::tokens::{self, Tokens};
use crate::watch::DirectoryWatch;
use crate::workload::{CONTROL_PLANE_PORT, Command, Part, Workload};
use crate::world::announce;

/// Runs the world whose files are in `state_directory`, until it is told to end or its owner is gone.
pub fn run(state_directory: &Path, user_namespace: bool) -> ExitCode {
    match run_world(state_directory, user_namespace) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let reason = format!("{error:#}");
            eprintln!("heddle-local: {reason}");
            announce(&Announcement::Failed { reason });
            ExitCode::FAILURE
        }
    }
}

fn run_world(state_directory: &Path, user_namespace: bool) -> anyhow::Result<()> {
    take_all_signals()?;
    heddle_runtime::logging::init(LOG_FILTER, Format::Text)?;
    let state = StateDirectory::new(state_directory);
    let settings = Arc::new(Settings::read(state, user_namespace)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let owner = Owner::new(&settings)?;
        let (supervisor, asks) = Supervisor::new(settings).await?;
        supervisor.serve(asks, owner).await
    });
    // Whatever still runs ends with the first process.
    runtime.shutdown_background();
    outcome
}

/// Whoever started the world, seen as the other end of the pipe that is this process's standard input.
struct Owner(Option<pipe::Receiver>);

impl Owner {
    fn new(settings: &Settings) -> io::Result<Self> {
        if settings.config.detach {
            return Ok(Self(None));
        }
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self(Some(pipe::Receiver::from_owned_fd(input)?)))
    }

    async fn gone(&mut self) {
        match &mut self.0 {
            Some(pipe) => {
                let mut bytes = [0_u8; 64];
                while pipe.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
            }
            None => std::future::pending().await,
        }
    }
}

struct Supervisor {
    settings: Arc<Settings>,
    tasks: Tasks,
    bridge: Bridge,
    manifests: Manifests,
    reading: Reading,
    mirror: Mirror,
    tokens: Tokens,
    workloads: BTreeMap<u32, Tenant>,
    control_plane: Option<Process>,
    changed: Arc<Notify>,
    status: watch::Sender<LocalStatus>,
}

/// A workload, and whether it is wanted.
struct Tenant {
    workload: Workload,
    ending: bool,
}

impl Supervisor {
    async fn new(settings: Arc<Settings>) -> anyhow::Result<(Self, mpsc::Receiver<Ask>)> {
        let tasks = Tasks::new();
        // A name of the machine's own would be misleading in shells that are opened here.
        nix::unistd::sethostname(&settings.config.name)?;
        namespaces::tune_network();
        let bridge = Bridge::create(settings.families, &tasks).await?;
        write_name_service(&settings.state)?;
        let state = &settings.state;
        let (sender, asks) = mpsc::channel(ASKS_LIMIT);
        let (status, receiver) = watch::channel(LocalStatus {
            name: settings.config.name.clone(),
            directory: settings.config.directory.clone(),
            workloads: Vec::new(),
            services: Vec::new(),
            control_plane: no_control_plane(),
            problems: Vec::new(),
        });
        let mut supervisor = Self {
            manifests: Manifests::new(settings.families),
            reading: Reading::default(),
            mirror: Mirror::new(state.manifests()),
            tokens: Tokens::new(state.clone())?,
            workloads: BTreeMap::new(),
            control_plane: None,
            changed: Arc::new(Notify::new()),
            bridge,
            tasks,
            status,
            settings: Arc::clone(&settings),
        };
        supervisor.follow();
        supervisor.start_control_plane();
        supervisor.publish();
        let desk = Desk { status: receiver, asks: sender };
        control::listen(&state.control_socket(), desk, &supervisor.tasks)?;
        Ok((supervisor, asks))
    }

    async fn serve(
        mut self,
        mut asks: mpsc::Receiver<Ask>,
        mut owner: Owner,
    ) -> anyhow::Result<()> {
        let mut directory = DirectoryWatch::new(&self.settings.config.directory)?;
        // What changed before the watch began.
        self.follow();
        self.publish();
        announce(&Announcement::Listening);
        let changed = Arc::clone(&self.changed);
        let mut terminated = std::pin::pin!(signals::terminated());
        loop {
            tokio::select! {
                () = directory.changed() => self.follow(),
                () = changed.notified() => self.write_files(),
                ask = asks.recv() => match ask {
                    Some(Ask::Shutdown(done)) => {
                        self.end().await;
                        let _ = done.send(());
                        // The answer leaves before this process does.
                        self.tasks.shutdown(ANSWER_GRACE).await;
                        return Ok(());
                    }
                    Some(ask) => self.answer(ask).await,
                    None => return Ok(()),
                },
                _ = &mut terminated => {
                    self.end().await;
                    return Ok(());
                }
                // Nobody is left to whom a good order would matter.
                () = owner.gone() => return Ok(()),
            }
            self.publish();
        }
    }

    /// Makes the world what the directory says.
    fn follow(&mut self) {
        let files = match scan(&self.settings.config.directory) {
            Ok(files) => files,
            // The last good state stays, also when somebody moves the directory away.
            Err(error) => {
                tracing::error!(%error, "directory cannot be read");
                return;
            }
        };
        let mut reading = self.manifests.read(&files, tokens::new_uid);
        if !self.settings.has_mesh() {
            for pod in &mut reading.pods {
                pod.meshed = false;
            }
        }
        for problem in &reading.problems {
            if !self.reading.problems.contains(problem) {
                tracing::warn!(error = %problem, "not as written");
            }
        }
        self.reading = reading;
        let mut leaving = Vec::new();
        for (instance, tenant) in &mut self.workloads {
            let wanted = self.reading.pods.iter().any(|pod| pod.instance == *instance);
            if !wanted && !tenant.ending {
                tenant.ending = true;
                leaving.push((tenant.workload.commands(), Arc::clone(&tenant.workload.plan)));
            }
        }
        let arriving: Vec<PodPlan> = self
            .reading
            .pods
            .iter()
            .filter(|pod| !self.workloads.contains_key(&pod.instance))
            .cloned()
            .collect();
        // The control plane honours a token only of a pod that it knows of, and endpoints go before their pods.
        self.write_files();
        for (commands, plan) in leaving {
            tracing::info!(workload = %plan.name, pod_uid = %plan.uid, "workload ends");
            let head_start = if plan.meshed { ENDPOINTS_HEAD_START } else { Duration::ZERO };
            self.tasks.spawn("local.farewell", async move {
                tokio::time::sleep(head_start).await;
                let _ = commands.send(Command::End(plan.termination_grace)).await;
            });
        }
        for plan in arriving {
            tracing::info!(workload = %plan.name, pod_uid = %plan.uid, "workload starts");
            if let Err(error) = self.start(plan) {
                tracing::error!(%error, "workload not started");
            }
        }
    }

    fn start(&mut self, plan: PodPlan) -> io::Result<()> {
        let instance = plan.instance;
        let directory = self.settings.state.workload(plan.uid.as_str(), "");
        std::fs::create_dir_all(directory)?;
        if plan.meshed {
            self.tokens.mint(&plan)?;
        }
        let hosts = self.settings.state.workload(plan.uid.as_str(), "hosts");
        std::fs::write(hosts, self.hosts(&plan))?;
        let workload = Workload::start(
            Arc::clone(&self.settings),
            Arc::new(plan),
            self.bridge.clone(),
            Arc::clone(&self.changed),
        )?;
        self.workloads.insert(instance, Tenant { workload, ending: false });
        Ok(())
    }

    /// Writes what follows from the directory and from how the workloads are.
    fn write_files(&mut self) {
        self.forget_gone();
        let mut files = self.reading.outputs.clone();
        files.extend(endpoint_slice::files(&self.reading.services, &self.candidates()));
        for tenant in self.workloads.values().filter(|tenant| tenant.ending) {
            let plan = &tenant.workload.plan;
            if let Some(yaml) = documents::print_value(&ending(plan)) {
                files.insert(
                    format!(".generated/ending/{}.yaml", plan.instance).into(),
                    yaml.into(),
                );
            }
        }
        if let Err(error) = self.mirror.sync(files) {
            tracing::error!(%error, "manifests not written");
        }
        for tenant in self.workloads.values() {
            let plan = &tenant.workload.plan;
            let file = self.settings.state.workload(plan.uid.as_str(), "hosts");
            if let Err(error) = rewrite(&file, &self.hosts(plan)) {
                tracing::error!(%error, path = %file.display(), "names not written");
            }
        }
    }

    fn forget_gone(&mut self) {
        let gone: Vec<u32> = self
            .workloads
            .iter()
            .filter(|(_, tenant)| tenant.workload.is_gone())
            .map(|(instance, _)| *instance)
            .collect();
        for tenant in gone.iter().filter_map(|instance| self.workloads.remove(instance)) {
            let uid = &tenant.workload.plan.uid;
            tracing::info!(workload = %tenant.workload.plan.name, pod_uid = %uid, "workload is gone");
            // A pod whose file names its UID may have come back already.
            if self.reading.pods.iter().all(|pod| pod.uid != *uid) {
                let directory = self.settings.state.workload(uid.as_str(), "");
                let forgotten =
                    self.tokens.revoke(uid).and_then(|()| std::fs::remove_dir_all(directory));
                if let Err(error) = forgotten {
                    tracing::warn!(%error, pod_uid = %uid, "files of a workload not removed");
                }
            }
        }
    }

    fn candidates(&self) -> Vec<Candidate<'_>> {
        let ready = |pod: &PodPlan| {
            self.workloads.get(&pod.instance).is_some_and(|tenant| tenant.workload.state().ready)
        };
        self.reading.pods.iter().map(|pod| Candidate { pod, ready: ready(pod) }).collect()
    }

    fn hosts(&self, plan: &PodPlan) -> String {
        let candidates = self.candidates();
        let services: Vec<_> = self
            .reading
            .services
            .iter()
            .map(|service| NamedService {
                service,
                ready: endpoint_slice::ready_addresses(service, &candidates),
            })
            .collect();
        hosts_file(plan, &services)
    }

    fn start_control_plane(&mut self) {
        if !self.settings.has_mesh() {
            return;
        }
        let (state, config) = (&self.settings.state, &self.settings.config);
        let argv = [
            self.settings.binary("heddle-control-plane"),
            format!("--directory={}", state.manifests().display()),
            format!("--state-directory={}", state.control_plane().display()),
            format!("--join-tokens={}", state.join_tokens().display()),
            format!("--listen=0.0.0.0:{CONTROL_PLANE_PORT}"),
            format!("--admin-socket={}", state.admin_socket().display()),
            format!("--trust-domain={}", config.trust_domain),
            format!("--leaf-lifetime={}s", config.leaf_lifetime.as_secs()),
        ];
        let plan = Plan {
            name: CONTROL_PLANE.to_owned(),
            program: program(argv.to_vec(), Keep::Nothing),
            log: state.logs().join("control-plane.log"),
            restart: RestartPolicy::Always,
        };
        let settings = Arc::clone(&self.settings);
        let changed = Arc::clone(&self.changed);
        self.control_plane = Some(Process::start(settings, plan, changed, &self.tasks));
    }

    async fn answer(&mut self, ask: Ask) {
        // Nobody may be waiting for an answer any more, which is no error.
        match ask {
            Ask::Rescan(done) => {
                self.follow();
                self.publish();
                let _ = done.send(());
            }
            Ask::Run(request, answer) => self.start_run(request, answer).await,
            Ask::Stop(target, signal, done) => {
                let outcome = match (&target, &self.control_plane) {
                    (Target::ControlPlane, Some(process)) => {
                        process.signal(signal).await;
                        Ok(())
                    }
                    _ => self.tell(&target, |part, done| Command::Signal(part, signal, done)).await,
                };
                let _ = done.send(outcome);
            }
            Ask::StartAgain(target, done) => {
                let outcome = match (&target, &self.control_plane) {
                    (Target::ControlPlane, Some(process)) => {
                        process.start_again().await;
                        Ok(())
                    }
                    _ => self.tell(&target, Command::StartAgain).await,
                };
                let _ = done.send(outcome);
            }
            // The caller has answered it.
            Ask::Shutdown(_) => {}
        }
    }

    async fn tell(
        &self,
        target: &Target,
        command: impl FnOnce(Part, oneshot::Sender<bool>) -> Command,
    ) -> Result<(), String> {
        let (name, part) = match target {
            Target::ControlPlane => return Err("this world has no control plane".to_owned()),
            Target::Proxy(name) => (name, Part::Proxy),
            Target::Application(name) => (name, Part::Application),
        };
        let commands = self.find(name)?.commands();
        let (sender, receiver) = oneshot::channel();
        let sent = commands.send(command(part, sender)).await;
        match sent.is_ok().then_some(receiver.await) {
            Some(Ok(true)) => Ok(()),
            Some(Ok(false)) => Err(format!("{name} has no such process yet, or none at all")),
            Some(Err(_)) | None => Err(format!("{name} is ending")),
        }
    }

    async fn start_run(
        &self,
        request: RunRequest,
        mut answer: oneshot::Sender<Result<Output, String>>,
    ) {
        if request.workload == BRIDGE {
            let settings = Arc::clone(&self.settings);
            let program = program(request.argv, Keep::Everything);
            self.tasks.spawn("local.run", async move {
                tokio::select! {
                    () = answer.closed() => {}
                    output = captured::run(&settings, &program, request.stdin) => {
                        let _ = answer.send(output.map_err(|error| Chain(&error).to_string()));
                    }
                }
            });
            return;
        }
        match self.find(&request.workload).map(Workload::commands) {
            // Dropping the command, if the workload is ending, is an answer too.
            Ok(commands) => {
                let _ = commands.send(Command::Run(request, answer)).await;
            }
            Err(reason) => {
                let _ = answer.send(Err(reason));
            }
        }
    }

    fn find(&self, name: &str) -> Result<&Workload, String> {
        let (namespace, short) = name.split_once('/').unwrap_or(("", name));
        self.workloads
            .values()
            .rev()
            .map(|tenant| &tenant.workload)
            .find(|workload| {
                let pod = &workload.plan.name;
                pod.name == short && (namespace.is_empty() || pod.namespace == namespace)
            })
            .ok_or_else(|| format!("there is no workload {name}"))
    }

    /// Ends everything in good order, and soon: whoever asks for it waits.
    async fn end(&mut self) {
        tracing::info!("world ends");
        for tenant in self.workloads.values_mut() {
            tenant.ending = true;
            let grace = tenant.workload.plan.termination_grace.min(SHUTDOWN_GRACE);
            let _ = tenant.workload.commands().send(Command::End(grace)).await;
        }
        while self.workloads.values().any(|tenant| !tenant.workload.is_gone()) {
            self.changed.notified().await;
        }
        if let Some(control_plane) = &self.control_plane {
            control_plane.end(SHUTDOWN_GRACE).await;
        }
    }

    fn publish(&self) {
        let candidates = self.candidates();
        let services = self
            .reading
            .services
            .iter()
            .map(|service| ServiceStatus {
                namespace: service.name.namespace.clone(),
                name: service.name.name.clone(),
                addresses: service.addresses.clone(),
                ports: service
                    .ports
                    .iter()
                    .map(|port| ServicePortStatus { name: port.name.clone(), port: port.port })
                    .collect(),
                ready_endpoints: candidates
                    .iter()
                    .filter(|candidate| candidate.ready && service.selects(candidate.pod))
                    .count(),
            })
            .collect();
        let workloads = self.workloads.values().map(workload_status).collect();
        let control_plane =
            self.control_plane.as_ref().map_or_else(no_control_plane, Process::status);
        self.status.send_if_modified(|status| {
            let before = status.clone();
            status.workloads = workloads;
            status.services = services;
            status.control_plane = control_plane;
            status.problems.clone_from(&self.reading.problems);
            *status != before
        });
    }
}

fn workload_status(tenant: &Tenant) -> WorkloadStatus {
    let Workload { plan, .. } = &tenant.workload;
    let state = tenant.workload.state();
    WorkloadStatus {
        namespace: plan.name.namespace.clone(),
        name: plan.name.name.clone(),
        pod_uid: plan.uid.to_string(),
        addresses: plan.addresses.all(),
        meshed: plan.meshed,
        ready: state.ready && !tenant.ending,
        complete: state.complete,
        ending: tenant.ending,
        state: state.text,
        logs: state.processes.iter().map(|process| process.log.clone()).collect(),
        processes: state.processes,
    }
}

fn no_control_plane() -> ProcessStatus {
    ProcessStatus {
        name: CONTROL_PLANE.to_owned(),
        state: "not part of this world".to_owned(),
        ..ProcessStatus::default()
    }
}

fn program(argv: Vec<String>, keep: Keep) -> Program {
    let (variables, directory) = (Vec::new(), "/".into());
    Program { argv, variables, directory, keep, user: None, hide_state: false }
}

/// There is no DNS server here: a name that is not in `/etc/hosts` is unknown at once, since nobody listens at the
/// address below.
fn write_name_service(state: &StateDirectory) -> io::Result<()> {
    std::fs::write(
        state.etc("resolv.conf"),
        "# There is no DNS server in a local mesh: see /etc/hosts.\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
    )?;
    let machine = std::fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    let others = machine.lines().filter(|line| !line.trim_start().starts_with("hosts:"));
    let text: String = others.chain(["hosts: files dns"]).flat_map(|line| [line, "\n"]).collect();
    std::fs::write(state.etc("nsswitch.conf"), text)
}

/// Rewrites a file that is mounted elsewhere, and so must stay the same file. One write, and only then the new end, so
/// that a reader never finds it empty.
fn rewrite(file: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;

    if std::fs::read(file).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(());
    }
    let opened = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(file)?;
    opened.write_all_at(text.as_bytes(), 0)?;
    opened.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))
}

const CONTROL_PLANE: &str = "control-plane";
/// Of this process; every other one has a log file of its own.
const LOG_FILTER: &str = "info";
const ASKS_LIMIT: usize = 64;
const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// Ending a world is not ending a pod: nobody depends on it any more.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// How long proxies have to hear that an endpoint is gone before its pod is asked to end. Kubernetes leaves this to
/// `preStop` hooks; without it the first connections of those who have not heard yet are refused.
const ENDPOINTS_HEAD_START: Duration = Duration::from_millis(500);
