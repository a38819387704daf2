//! Runs a world: follows the directory, starts and ends workloads, and keeps the control plane's view of them true. It
//! plays API server, kubelet and endpoint controller. One task decides everything; see `Supervisor::serve`.

mod name_service;
mod owner;
mod report;
mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use heddle_runtime::logging::Format;
use heddle_runtime::signals;
use heddle_runtime::tasks::Tasks;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::confine::Keep;
use crate::control::{self, Ask, Desk};
use crate::init::take_all_signals;
use crate::manifests::endpoint_slice::{self, Candidate};
use crate::manifests::hosts::{NamedService, hosts_file};
use crate::manifests::pod::{PodPlan, RestartPolicy, ending};
use crate::manifests::{Manifests, Reading, documents};
use crate::mirror::Mirror;
use crate::namespaces;
use crate::network::Bridge;
use crate::process::{Plan, Process};
use crate::protocol::Announcement;
use crate::settings::{Program, Settings};
use crate::source::Source;
use crate::state_directory::StateDirectory;
use crate::status::{LocalStatus, Problem};
use crate::tokens::{self, Tokens};
use crate::watch::DirectoryWatch;
use crate::workload::sidecar::{CONTROL_PLANE_METRICS_PORT, CONTROL_PLANE_PORT};
use crate::workload::{Command, Workload};
use crate::world::announce;
use owner::Owner;

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

struct Supervisor {
    settings: Arc<Settings>,
    tasks: Tasks,
    bridge: Bridge,
    source: Source,
    manifests: Manifests,
    reading: Reading,
    /// Workloads that could not be started; tried again soon.
    not_started: Vec<Problem>,
    /// Files that could not be written; tried again soon.
    not_written: Vec<Problem>,
    mirror: Mirror,
    tokens: Tokens,
    workloads: BTreeMap<u32, Tenant>,
    /// The workloads that were ready when the files were last written: nobody is told of more than those,
    /// since each becomes ready on a thread of its own.
    ready: BTreeSet<u32>,
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
        namespaces::set_host_name(&settings.config.name)?;
        namespaces::tune_network();
        let bridge = Bridge::create(settings.families, &tasks).await?;
        name_service::write_name_service(&settings.state)?;
        let state = &settings.state;
        let (sender, asks) = mpsc::channel(ASKS_LIMIT);
        let (status, receiver) = watch::channel(LocalStatus {
            name: settings.config.name.clone(),
            directory: settings.config.directory.clone(),
            workloads: Vec::new(),
            services: Vec::new(),
            control_plane: report::no_control_plane(),
            problems: Vec::new(),
        });
        let mut supervisor = Self {
            source: Source::new(settings.config.directory.clone()),
            not_started: Vec::new(),
            not_written: Vec::new(),
            manifests: Manifests::new(settings.families),
            reading: Reading::default(),
            mirror: Mirror::new(state.manifests()),
            tokens: Tokens::new(state.clone())?,
            workloads: BTreeMap::new(),
            ready: BTreeSet::new(),
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
        let mut next_look = Instant::now() + LOOK_PAUSE;
        let mut terminated = std::pin::pin!(signals::terminated());
        loop {
            tokio::select! {
                () = directory.changed() => self.follow(),
                () = changed.notified() => self.write_files(),
                // What the kernel does not tell of, such as a change behind a symbolic link, and what failed before.
                () = sleep_until(next_look) => {
                    next_look = Instant::now() + LOOK_PAUSE;
                    if directory.is_outdated() {
                        match DirectoryWatch::new(&self.settings.config.directory) {
                            Ok(new) => directory = new,
                            Err(error) => tracing::warn!(%error, "directory not watched"),
                        }
                    }
                    self.follow();
                }
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
            if self.has_failed() || self.source.is_unfinished() {
                next_look = next_look.min(Instant::now() + RETRY_PAUSE);
            }
        }
    }

    fn has_failed(&self) -> bool {
        !self.not_started.is_empty() || !self.not_written.is_empty()
    }

    /// Makes the world what the directory says.
    fn follow(&mut self) {
        if !self.source.look() && !self.has_failed() {
            return;
        }
        let mut reading = self.manifests.read(self.source.files(), tokens::new_uid);
        reading.problems.extend_from_slice(self.source.problems());
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
        self.not_started.clear();
        for plan in arriving {
            tracing::info!(workload = %plan.name, pod_uid = %plan.uid, "workload starts");
            let object = format!("Pod {}", plan.name);
            if let Err(error) = self.start(plan) {
                tracing::error!(%error, object, "workload not started");
                self.not_started.push(self.failure(object, format!("not started: {error}")));
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
        let ready = self.workloads.iter().filter(|(_, tenant)| tenant.workload.state().ready);
        self.ready = ready.map(|(instance, _)| *instance).collect();
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
        let mut failures = Vec::new();
        if let Err(error) = self.mirror.sync(&files) {
            failures.push(self.failure(String::new(), format!("manifests not written: {error}")));
        }
        for tenant in self.workloads.values() {
            let plan = &tenant.workload.plan;
            let file = self.settings.state.workload(plan.uid.as_str(), "hosts");
            if let Err(error) = name_service::rewrite(&file, &self.hosts(plan)) {
                let object = format!("Pod {}", plan.name);
                failures.push(self.failure(object, format!("/etc/hosts not written: {error}")));
            }
        }
        for failure in failures.iter().filter(|failure| !self.not_written.contains(failure)) {
            tracing::error!(error = %failure, "tried again soon");
        }
        self.not_written = failures;
    }

    /// Something that this world itself could not do.
    fn failure(&self, object: String, message: String) -> Problem {
        let (file, field) = (self.settings.config.directory.clone(), String::new());
        let message = format!("{message}; tried again soon");
        Problem { file, object, field, message, blocking: true }
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
        let ready = |pod: &PodPlan| self.ready.contains(&pod.instance);
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
        let mut argv = vec![
            self.settings.binary("heddle-control-plane"),
            format!("--directory={}", state.manifests().display()),
            format!("--state-directory={}", state.control_plane().display()),
            format!("--join-tokens={}", state.join_tokens().display()),
            format!("--listen=0.0.0.0:{CONTROL_PLANE_PORT}"),
            format!("--admin-socket={}", state.admin_socket().display()),
            format!("--metrics-listen=0.0.0.0:{CONTROL_PLANE_METRICS_PORT}"),
            format!("--trust-domain={}", config.trust_domain),
            format!("--leaf-lifetime={}s", config.leaf_lifetime.as_secs()),
        ];
        argv.extend_from_slice(&config.control_plane_arguments);
        let plan = Plan {
            name: CONTROL_PLANE.to_owned(),
            program: program(argv, Keep::LowPorts),
            log: state.logs().join("control-plane.log"),
            restart: RestartPolicy::Always,
        };
        let settings = Arc::clone(&self.settings);
        let changed = Arc::clone(&self.changed);
        self.control_plane = Some(Process::start(settings, plan, changed, &self.tasks));
    }

    /// Ends everything in good order, and soon: whoever asks for it waits.
    async fn end(&mut self) {
        tracing::info!("world ends");
        for tenant in self.workloads.values_mut() {
            tenant.ending = true;
            let grace = tenant.workload.plan.termination_grace.min(SHUTDOWN_GRACE);
            let _ = tenant.workload.commands().send(Command::End(grace)).await;
        }
        let all_gone = async {
            while self.workloads.values().any(|tenant| !tenant.workload.is_gone()) {
                self.changed.notified().await;
            }
        };
        // The kernel ends whatever does not.
        let _ = tokio::time::timeout(2 * SHUTDOWN_GRACE + ANSWER_GRACE, all_gone).await;
        if let Some(control_plane) = &self.control_plane {
            control_plane.end(SHUTDOWN_GRACE).await;
        }
    }
}

fn program(argv: Vec<String>, keep: Keep) -> Program {
    let (variables, directory) = (Vec::new(), "/".into());
    Program { argv, variables, directory, keep, user: None, hide_state: false }
}

const CONTROL_PLANE: &str = "control-plane";
/// Of this process; every other one has a log file of its own.
const LOG_FILTER: &str = "info";
/// How often the directory is looked at when nobody says that it has changed.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const ASKS_LIMIT: usize = 64;
const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// Ending a world is not ending a pod: nobody depends on it any more.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// How long proxies have to hear that an endpoint is gone before its pod is asked to end. Kubernetes leaves this to
/// `preStop` hooks; without it the first connections of those who have not heard yet are refused.
const ENDPOINTS_HEAD_START: Duration = Duration::from_millis(500);
