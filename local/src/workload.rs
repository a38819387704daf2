//! One workload: a thread in namespaces of its own that starts the redirect, the proxy and the application, in this
//! order, and says when it is ready. Which workloads there are is decided in `supervisor`.

mod readiness;
pub mod sidecar;

use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use heddle_runtime::logging::Chain;
use heddle_runtime::tasks::Tasks;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::sleep;

use crate::captured;
use crate::confine::Keep;
use crate::manifests::pod::{ContainerPlan, PodPlan, RestartPolicy};
use crate::namespaces::{self, Replacement};
use crate::network::{Bridge, VirtualAddresses};
use crate::process::{Plan, Process};
use crate::protocol::{Output, RunRequest, Signal};
use crate::settings::{Program, Settings};
use crate::status::ProcessStatus;

/// A workload that runs.
#[derive(Debug)]
pub struct Workload {
    /// What it runs.
    pub plan: Arc<PodPlan>,
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<State>,
}

/// How a workload is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whether its endpoints are ready.
    pub ready: bool,
    /// Whether all of its containers have ended and are not started again.
    pub complete: bool,
    /// What it is doing or waiting for, for people.
    pub text: String,
    /// Its processes.
    pub processes: Vec<ProcessStatus>,
}

/// The processes of a workload that can be addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The proxy.
    Proxy,
    /// The containers.
    Application,
}

/// What a workload can be asked to do.
#[derive(Debug)]
pub enum Command {
    /// Signal a part; answered when it is signalled, with false when there is no such part.
    Signal(Part, Signal, oneshot::Sender<bool>),
    /// Start a part that was stopped.
    StartAgain(Part, oneshot::Sender<bool>),
    /// Run another process in its namespaces. Cancelled by dropping the other end of the answer.
    Run(RunRequest, oneshot::Sender<Result<Output, String>>),
    /// End its processes within that time, and then itself.
    End(Duration),
}

impl Workload {
    /// Starts its thread. `changed` hears of every change of its state.
    pub fn start(
        settings: Arc<Settings>,
        plan: Arc<PodPlan>,
        bridge: Bridge,
        changed: Arc<Notify>,
    ) -> io::Result<Self> {
        let (commands, receiver) = mpsc::channel(COMMANDS_LIMIT);
        let (sender, state) = watch::channel(State::default());
        let actor_plan = Arc::clone(&plan);
        std::thread::Builder::new().name(format!("pod{}", plan.instance)).spawn(move || {
            let own_change = Arc::new(Notify::new());
            let actor = Actor {
                settings,
                plan: actor_plan,
                bridge,
                tasks: Tasks::new(),
                state: sender,
                changed,
                own_change,
                proxy: RefCell::default(),
                containers: RefCell::default(),
                ready_proxy: Cell::new(None),
            };
            actor.live(receiver);
        })?;
        Ok(Self { plan, commands, state })
    }

    /// How it is.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Whether nothing of it is left.
    pub fn is_gone(&self) -> bool {
        self.state.has_changed().is_err()
    }

    /// Where to send commands.
    pub fn commands(&self) -> mpsc::Sender<Command> {
        self.commands.clone()
    }
}

struct Actor {
    settings: Arc<Settings>,
    plan: Arc<PodPlan>,
    bridge: Bridge,
    tasks: Tasks,
    state: watch::Sender<State>,
    changed: Arc<Notify>,
    /// Hears of its own processes.
    own_change: Arc<Notify>,
    proxy: RefCell<Option<Rc<Process>>>,
    containers: RefCell<Vec<Rc<Process>>>,
    /// The process id of the proxy that has said that it is ready.
    ready_proxy: Cell<Option<u32>>,
}

impl Actor {
    fn live(self, mut commands: mpsc::Receiver<Command>) {
        let begun = namespaces::enter(&self.plan.name.name, &self.replacements())
            .map_err(|error| Chain(&error).to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.serve(begun, &mut commands)),
            Err(error) => {
                self.say(format!("failed: cannot start a runtime: {error}"));
                while !matches!(commands.blocking_recv(), Some(Command::End(_)) | None) {}
            }
        }
        let changed = Arc::clone(&self.changed);
        // Its end of the state has to be gone before the supervisor looks.
        drop(self);
        changed.notify_one();
    }

    async fn serve(&self, begun: Result<(), String>, commands: &mut mpsc::Receiver<Command>) {
        let grace = {
            let mut life = std::pin::pin!(self.run(begun));
            loop {
                tokio::select! {
                    never = &mut life => match never {},
                    command = commands.recv() => match command {
                        Some(Command::End(grace)) => break grace,
                        None => break Duration::ZERO,
                        Some(other) => self.obey(other).await,
                    },
                }
            }
        };
        self.say("ending".to_owned());
        self.end(grace).await;
        self.tasks.shutdown(Duration::ZERO).await;
    }

    /// Brings it up and then watches it.
    async fn run(&self, begun: Result<(), String>) -> std::convert::Infallible {
        let up = match begun {
            Ok(()) => self.bring_up().await,
            Err(error) => Err(error),
        };
        if let Err(error) = up {
            tracing::error!(workload = %self.plan.name, %error, "workload failed");
            self.say(format!("failed: {error}"));
            return std::future::pending().await;
        }
        loop {
            self.look().await;
            let pause = if self.state.borrow().ready { READY_PAUSE } else { WAITING_PAUSE };
            tokio::select! {
                () = self.own_change.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    async fn bring_up(&self) -> Result<(), String> {
        self.say("connecting to the bridge".to_owned());
        namespaces::tune_network();
        let virtual_addresses = if self.plan.meshed {
            VirtualAddresses::TakenByProxy
        } else {
            VirtualAddresses::Unreachable
        };
        self.bridge
            .connect(self.plan.instance, self.plan.addresses, virtual_addresses, &self.tasks)
            .await
            .map_err(|error| Chain(&error).to_string())?;
        if self.plan.meshed {
            self.redirect().await?;
            self.wait_for_trust_anchors().await;
            self.start_proxy();
            while !self.proxy_is_ready().await {
                tokio::select! {
                    () = self.own_change.notified() => {}
                    () = sleep(WAITING_PAUSE) => {}
                }
            }
        }
        for container in &self.plan.containers {
            let process = self.start(Plan {
                name: container.name.clone(),
                program: self.application(container, container.argv.clone()),
                log: self.log(&container.name),
                restart: self.plan.restart,
            });
            self.containers.borrow_mut().push(process);
        }
        Ok(())
    }

    /// Before anything else runs: no connection is to leave without the proxy's knowledge.
    async fn redirect(&self) -> Result<(), String> {
        self.say("programming the redirect".to_owned());
        let program = self.program(sidecar::redirect(&self.settings), Keep::Everything);
        let output = captured::run(&self.settings, &program, Vec::new())
            .await
            .map_err(|error| format!("redirect: {}", Chain(&error)))?;
        let log = [output.stdout.as_slice(), &output.stderr].concat();
        if let Err(error) = std::fs::write(self.log("redirect"), log) {
            tracing::warn!(%error, workload = %self.plan.name, "log not written");
        }
        match output.code {
            0 => Ok(()),
            code => {
                Err(format!("redirect exited with code {code}: {}", output.stderr_text().trim()))
            }
        }
    }

    async fn wait_for_trust_anchors(&self) {
        let file = self.settings.state.trust_anchors();
        self.say("waiting for the control plane to write its trust anchors".to_owned());
        while !file.exists() {
            sleep(WAITING_PAUSE).await;
        }
    }

    fn start_proxy(&self) {
        let proxy = self.start(Plan {
            name: "proxy".to_owned(),
            program: self
                .program(sidecar::proxy(&self.settings, &self.plan), Keep::NetworkAdministration),
            log: self.log("proxy"),
            restart: RestartPolicy::Always,
        });
        *self.proxy.borrow_mut() = Some(proxy);
    }

    async fn obey(&self, command: Command) {
        match command {
            Command::Signal(part, signal, done) => {
                let processes = self.part(part);
                for process in &processes {
                    process.signal(signal).await;
                }
                let _ = done.send(!processes.is_empty());
            }
            Command::StartAgain(part, done) => {
                let processes = self.part(part);
                for process in &processes {
                    process.start_again().await;
                }
                let _ = done.send(!processes.is_empty());
            }
            Command::Run(request, answer) => self.start_run(request, answer),
            // Answered by the caller.
            Command::End(_) => {}
        }
    }

    fn start_run(&self, request: RunRequest, mut answer: oneshot::Sender<Result<Output, String>>) {
        let settings = Arc::clone(&self.settings);
        let program = match self.plan.containers.first() {
            Some(container) if !request.privileged => self.application(container, request.argv),
            Some(_) | None => self.program(request.argv, Keep::Everything),
        };
        self.tasks.spawn("local.run", async move {
            tokio::select! {
                () = answer.closed() => {}
                output = captured::run(&settings, &program, request.stdin) => {
                    let _ = answer.send(output.map_err(|error| Chain(&error).to_string()));
                }
            }
        });
    }

    /// The application first, so that it can finish through its proxy.
    async fn end(&self, grace: Duration) {
        let deadline = tokio::time::Instant::now() + grace;
        let containers = self.containers.borrow().clone();
        // They end at the same time, each within the whole of it.
        futures_util::future::join_all(containers.iter().map(|process| process.end(grace))).await;
        if let Some(proxy) = self.proxy() {
            let rest = deadline.duration_since(tokio::time::Instant::now());
            proxy.end(rest.max(LEAST_PROXY_GRACE.min(grace))).await;
        }
        // What has left its process group, such as a daemon.
        for pid in namespaces::processes_in_network().unwrap_or_default() {
            let own = i32::try_from(std::process::id()) == Ok(pid);
            if !own {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::SIGKILL,
                );
            }
        }
    }

    fn start(&self, plan: Plan) -> Rc<Process> {
        let settings = Arc::clone(&self.settings);
        Rc::new(Process::start(settings, plan, Arc::clone(&self.own_change), &self.tasks))
    }

    fn application(&self, container: &ContainerPlan, argv: Vec<String>) -> Program {
        let mut variables = vec![("HOSTNAME".to_owned(), self.plan.name.name.clone())];
        variables.extend(container.variables.iter().cloned());
        Program {
            argv,
            variables,
            directory: container.working_directory.clone(),
            keep: Keep::Nothing,
            user: container.user,
            hide_state: true,
        }
    }

    fn program(&self, argv: Vec<String>, keep: Keep) -> Program {
        let (variables, directory) = (Vec::new(), PathBuf::from("/"));
        Program { argv, variables, directory, keep, user: None, hide_state: false }
    }

    fn part(&self, part: Part) -> Vec<Rc<Process>> {
        match part {
            Part::Proxy => self.proxy().into_iter().collect(),
            Part::Application => self.containers.borrow().clone(),
        }
    }

    fn proxy(&self) -> Option<Rc<Process>> {
        self.proxy.borrow().clone()
    }

    fn log(&self, process: &str) -> PathBuf {
        let name = &self.plan.name;
        let file = format!("{}_{}_{process}.log", name.namespace, name.name);
        self.settings.state.logs().join(file)
    }

    fn replacements(&self) -> Vec<Replacement> {
        let state = &self.settings.state;
        vec![
            Replacement { file: "/etc/hosts", by: state.workload(self.plan.uid.as_str(), "hosts") },
            Replacement { file: "/etc/resolv.conf", by: state.etc("resolv.conf") },
            Replacement { file: "/etc/nsswitch.conf", by: state.etc("nsswitch.conf") },
        ]
    }

    fn say(&self, text: String) {
        self.publish(false, false, text);
    }

    fn publish(&self, ready: bool, complete: bool, text: String) {
        let processes = self
            .proxy()
            .iter()
            .chain(self.containers.borrow().iter())
            .map(|it| it.status())
            .collect();
        let state = State { ready, complete, text, processes };
        let news = self.state.send_if_modified(|known| {
            let news = *known != state;
            *known = state;
            news
        });
        if news {
            self.changed.notify_one();
        }
    }
}

const COMMANDS_LIMIT: usize = 64;
const WAITING_PAUSE: Duration = Duration::from_millis(20);
const READY_PAUSE: Duration = Duration::from_millis(250);
/// The proxy drains after the application, which may have used up the time of both.
const LEAST_PROXY_GRACE: Duration = Duration::from_secs(2);
