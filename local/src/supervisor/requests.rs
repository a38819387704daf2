//! Does what clients of the control socket ask of the supervisor, or passes it on to a workload.

use std::sync::Arc;

use heddle_runtime::logging::Chain;
use tokio::sync::oneshot;

use super::{Supervisor, program};
use crate::captured;
use crate::confine::Keep;
use crate::control::Ask;
use crate::protocol::{BRIDGE, Output, RunRequest, Target};
use crate::workload::{Command, Part, Workload};

impl Supervisor {
    /// Does what was asked; what takes long, in a task of its own.
    pub(super) async fn answer(&mut self, ask: Ask) {
        // Nobody may be waiting for an answer any more, which is no error.
        match ask {
            Ask::Rescan(done) => {
                self.follow();
                self.publish();
                let _ = done.send(());
            }
            Ask::Run(request, answer) => self.start_run(request, answer),
            Ask::Stop(target, signal, done) => match (&target, &self.control_plane) {
                (Target::ControlPlane, Some(process)) => {
                    process.signal(signal).await;
                    let _ = done.send(Ok(()));
                }
                _ => self.tell(target, |part, told| Command::Signal(part, signal, told), done),
            },
            Ask::StartAgain(target, done) => match (&target, &self.control_plane) {
                (Target::ControlPlane, Some(process)) => {
                    process.start_again().await;
                    let _ = done.send(Ok(()));
                }
                _ => self.tell(target, Command::StartAgain, done),
            },
            // The caller has answered it.
            Ask::Shutdown(_) => {}
        }
    }

    /// Passes a command on. A workload that is ending answers late, which nothing else here waits for.
    fn tell(
        &self,
        target: Target,
        command: impl FnOnce(Part, oneshot::Sender<bool>) -> Command,
        done: oneshot::Sender<Result<(), String>>,
    ) {
        let (name, part) = match target {
            Target::ControlPlane => {
                let _ = done.send(Err("this world has no control plane".to_owned()));
                return;
            }
            Target::Proxy(name) => (name, Part::Proxy),
            Target::Application(name) => (name, Part::Application),
        };
        let commands = match self.find(&name) {
            Ok(workload) => workload.commands(),
            Err(reason) => {
                let _ = done.send(Err(reason));
                return;
            }
        };
        let (sender, told) = oneshot::channel();
        let command = command(part, sender);
        self.tasks.spawn("local.command", async move {
            // Fails when the workload is gone; then so is the other end of `told`.
            let _ = commands.send(command).await;
            let _ = done.send(match told.await {
                Ok(true) => Ok(()),
                Ok(false) => Err(format!("{name} has no such process yet, or none at all")),
                Err(_gone) => Err(format!("{name} is ending")),
            });
        });
    }

    fn start_run(&self, request: RunRequest, mut answer: oneshot::Sender<Result<Output, String>>) {
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
            Ok(commands) => self.tasks.spawn("local.command", async move {
                // Dropping it with its answer, if the workload is gone, says so too.
                let _ = commands.send(Command::Run(request, answer)).await;
            }),
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
}
