//! Looks after one process: starts it, starts it again when it crashes, signals it, ends it.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use heddle_runtime::backoff::Backoff;
use heddle_runtime::tasks::Tasks;
use nix::sys::signal::killpg;
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::manifests::pod::RestartPolicy;
use crate::protocol::Signal;
use crate::settings::{Program, Settings};
use crate::status::ProcessStatus;

/// A process to look after.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it is called in the status.
    pub name: String,
    /// What to run.
    pub program: Program,
    /// Where its output goes.
    pub log: PathBuf,
    /// Whether it is started again after it ended by itself.
    pub restart: RestartPolicy,
}

/// A process that is looked after.
#[derive(Debug)]
pub struct Process {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<State>,
    name: String,
    log: PathBuf,
}

/// What a process is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Where in its life it is.
    pub phase: Phase,
    /// How often it was started again.
    pub restarts: u32,
}

/// Where in its life a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is about to run.
    Starting,
    /// It runs.
    Running {
        /// Its process id.
        pid: u32,
    },
    /// It was asked to end, and has not ended yet.
    Stopping {
        /// Its process id.
        pid: u32,
    },
    /// It ended by itself and is started again soon.
    Waiting {
        /// How it ended.
        end: String,
    },
    /// It was stopped.
    Stopped,
    /// It ended by itself and is not started again.
    Completed {
        /// How it ended.
        end: String,
    },
}

impl Process {
    /// Starts the process from the current thread, in whose namespaces it is. `changed` hears of every change.
    pub fn start(settings: Arc<Settings>, plan: Plan, changed: Arc<Notify>, tasks: &Tasks) -> Self {
        let (commands, receiver) = mpsc::channel(COMMANDS_LIMIT);
        let (sender, state) = watch::channel(State { phase: Phase::Starting, restarts: 0 });
        let (name, log) = (plan.name.clone(), plan.log.clone());
        let keeper = Keeper { settings, plan, commands: receiver, state: sender, changed };
        tasks.spawn("local.process", keeper.run());
        Self { commands, state, name, log }
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is doing, for people.
    pub fn status(&self) -> ProcessStatus {
        let State { phase, restarts } = self.state();
        let (pid, state) = match phase {
            Phase::Starting => (None, "starting".to_owned()),
            Phase::Running { pid } => (Some(pid), "running".to_owned()),
            Phase::Stopping { pid } => (Some(pid), "stopping".to_owned()),
            Phase::Waiting { end } => (None, format!("{end}; starts again soon")),
            Phase::Stopped => (None, "stopped".to_owned()),
            Phase::Completed { end } => (None, end),
        };
        let running = pid.is_some();
        ProcessStatus {
            name: self.name.clone(),
            running,
            pid,
            restarts,
            state,
            log: self.log.clone(),
        }
    }

    /// Sends a signal; after one that asks it to end, it is not started again.
    pub async fn signal(&self, signal: Signal) {
        self.command(|done| Command::Signal(signal, done)).await;
    }

    /// Starts it if it was stopped or waits to be started.
    pub async fn start_again(&self) {
        self.command(Command::StartAgain).await;
    }

    /// Asks it to end, kills it after `grace`, and returns when it is gone for good.
    pub async fn end(&self, grace: Duration) {
        self.command(|done| Command::End(grace, done)).await;
        let mut state = self.state.clone();
        while state.changed().await.is_ok() {}
    }

    async fn command(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (done, taken) = oneshot::channel();
        // Errors mean that it is gone for good already.
        if self.commands.send(command(done)).await.is_ok() {
            let _ = taken.await;
        }
    }
}

/// Each is acknowledged when it has been acted upon.
#[derive(Debug)]
enum Command {
    Signal(Signal, oneshot::Sender<()>),
    StartAgain(oneshot::Sender<()>),
    End(Duration, oneshot::Sender<()>),
}

struct Keeper {
    settings: Arc<Settings>,
    plan: Plan,
    commands: mpsc::Receiver<Command>,
    state: watch::Sender<State>,
    changed: Arc<Notify>,
}

/// How the life of one process ended.
enum Outcome {
    /// By itself.
    Exited { end: String, success: bool },
    /// By a signal that was asked for.
    Stopped,
    /// It is not to be looked after any more.
    Dismissed,
}

impl Keeper {
    async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF);
        loop {
            let started = Instant::now();
            let outcome = match self.spawn() {
                Ok(child) => self.attend(child).await,
                Err(error) => {
                    Outcome::Exited { end: format!("cannot start: {error}"), success: false }
                }
            };
            if started.elapsed() > HEALTHY_AFTER {
                backoff.reset();
            }
            let again = match outcome {
                Outcome::Dismissed => return,
                Outcome::Stopped => self.rest(Phase::Stopped, None).await,
                Outcome::Exited { end, success } => {
                    tracing::warn!(name = self.plan.name, %end, "process ended");
                    let again = match self.plan.restart {
                        RestartPolicy::Always => true,
                        RestartPolicy::OnFailure => !success,
                        RestartPolicy::Never => false,
                    };
                    if again {
                        let pause = backoff.next_delay();
                        self.state.send_modify(|state| state.restarts += 1);
                        self.rest(Phase::Waiting { end }, Some(pause)).await
                    } else {
                        self.rest(Phase::Completed { end }, None).await
                    }
                }
            };
            if !again {
                return;
            }
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let log = open_log(&self.plan.log)?;
        let mut command = self.settings.command(&self.plan.program);
        command.stdout(log.try_clone()?).stderr(log);
        command.spawn()
    }

    async fn attend(&mut self, mut child: Child) -> Outcome {
        let Some(pid) = child.id() else { return Outcome::Stopped };
        let group = Group::led_by(pid);
        self.enter(Phase::Running { pid });
        let mut stopping = false;
        loop {
            tokio::select! {
                status = child.wait() => {
                    // Workers of a server that was killed keep its port.
                    group.signal(Signal::Kill);
                    return match status {
                        Ok(_) if stopping => Outcome::Stopped,
                        Ok(status) => Outcome::Exited { end: describe(status), success: status.success() },
                        Err(error) => Outcome::Exited { end: error.to_string(), success: false },
                    };
                }
                command = self.commands.recv() => match command {
                    Some(Command::Signal(signal, done)) => {
                        if ends(signal) {
                            stopping = true;
                            self.enter(Phase::Stopping { pid });
                        }
                        group.signal(signal);
                        let _ = done.send(());
                    }
                    Some(Command::StartAgain(done)) => { let _ = done.send(()); }
                    Some(Command::End(grace, done)) => {
                        self.enter(Phase::Stopping { pid });
                        let _ = done.send(());
                        group.end(&mut child, grace).await;
                        return Outcome::Dismissed;
                    }
                    None => {
                        group.end(&mut child, Duration::ZERO).await;
                        return Outcome::Dismissed;
                    }
                },
                () = sleep(LOG_CHECK_PAUSE) => bound_log(&self.plan.log, LOG_LIMIT_BYTES),
            }
        }
    }

    /// Waits to be started again; false when it is dismissed.
    async fn rest(&mut self, phase: Phase, pause: Option<Duration>) -> bool {
        self.enter(phase);
        let deadline = pause.map(|pause| Instant::now() + pause);
        loop {
            let wake = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wake => return true,
                command = self.commands.recv() => match command {
                    Some(Command::Signal(signal, done)) => {
                        let _ = done.send(());
                        if ends(signal) && pause.is_some() {
                            return Box::pin(self.rest(Phase::Stopped, None)).await;
                        }
                    }
                    Some(Command::StartAgain(done)) => {
                        self.enter(Phase::Starting);
                        let _ = done.send(());
                        return true;
                    }
                    Some(Command::End(_, done)) => {
                        let _ = done.send(());
                        return false;
                    }
                    None => return false,
                },
            }
        }
    }

    fn enter(&self, phase: Phase) {
        self.state.send_modify(|state| state.phase = phase);
        self.changed.notify_one();
    }
}

/// A process and those that it started, so far as they did not leave.
#[derive(Debug)]
pub struct Group(Option<Pid>);

impl Group {
    /// The group of a process that was started as its leader.
    pub fn led_by(pid: u32) -> Self {
        Self(i32::try_from(pid).ok().filter(|pid| *pid > 1).map(Pid::from_raw))
    }

    /// Sends a signal to all in it.
    pub fn signal(&self, signal: Signal) {
        let signal = match signal {
            Signal::Terminate => nix::sys::signal::SIGTERM,
            Signal::Interrupt => nix::sys::signal::SIGINT,
            Signal::Kill => nix::sys::signal::SIGKILL,
            Signal::Pause => nix::sys::signal::SIGSTOP,
            Signal::Continue => nix::sys::signal::SIGCONT,
        };
        if let Some(group) = self.0 {
            // An error means that nobody is left.
            let _ = killpg(group, signal);
        }
    }

    /// Asks, waits, kills.
    async fn end(&self, child: &mut Child, grace: Duration) {
        self.signal(Signal::Terminate);
        // A process that stands still would not hear it.
        self.signal(Signal::Continue);
        let _ = timeout(grace, child.wait()).await;
        self.signal(Signal::Kill);
        let _ = child.wait().await;
    }
}

fn ends(signal: Signal) -> bool {
    match signal {
        Signal::Terminate | Signal::Interrupt | Signal::Kill => true,
        Signal::Pause | Signal::Continue => false,
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_unknown) => format!("killed by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}

fn open_log(path: &Path) -> std::io::Result<std::fs::File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// A process that talks for days fills no disk. Its log is copied and then emptied, since the process has it open: to
/// append, so that it goes on at the new end.
fn bound_log(path: &Path, limit_bytes: u64) {
    if std::fs::metadata(path).is_ok_and(|file| file.len() > limit_bytes) {
        let mut former = path.as_os_str().to_owned();
        former.push(".1");
        let copied = std::fs::copy(path, former);
        let emptied = OpenOptions::new().write(true).truncate(true).open(path);
        if let Err(error) = copied.and(emptied) {
            tracing::warn!(%error, path = %path.display(), "log not put aside");
        }
    }
}

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// A process that ran for so long did not crash at its start.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
const COMMANDS_LIMIT: usize = 16;
const LOG_LIMIT_BYTES: u64 = 64 * 1024 * 1024;
const LOG_CHECK_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_long_log_is_put_aside_and_goes_on_empty() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a.log");
        let mut log = open_log(&path).unwrap();
        log.write_all(b"first").unwrap();
        bound_log(&path, 5);
        assert_eq!(std::fs::read(&path).unwrap(), b"first", "short enough");
        bound_log(&path, 4);
        log.write_all(b"second").unwrap();
        assert_eq!(std::fs::read(temporary.path().join("a.log.1")).unwrap(), b"first");
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
    }
}
