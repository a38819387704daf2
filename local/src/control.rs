//! Answers on the control socket. What needs the supervisor is asked of it; the rest is read from the latest status.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use heddle_runtime::logging::Chain;
use heddle_runtime::tasks::Tasks;
use tokio::io::{AsyncReadExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::http;
use crate::mesh::world_process::log_tail;
use crate::protocol::{
    self, LineError, NotReady, Output, Request, Response, RunRequest, Signal, Target,
};
use crate::status::{LocalStatus, ProcessStatus};

/// What only the supervisor can do.
#[derive(Debug)]
pub enum Ask {
    /// Look at the directory now.
    Rescan(oneshot::Sender<()>),
    /// Run a process. Cancelled by dropping the other end.
    Run(RunRequest, oneshot::Sender<Result<Output, String>>),
    /// Signal a process.
    Stop(Target, Signal, oneshot::Sender<Result<(), String>>),
    /// Start a process that was stopped.
    StartAgain(Target, oneshot::Sender<Result<(), String>>),
    /// End everything.
    Shutdown(oneshot::Sender<()>),
}

/// What answers are made from.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The latest status.
    pub status: watch::Receiver<LocalStatus>,
    /// The supervisor.
    pub asks: mpsc::Sender<Ask>,
}

/// Listens on the control socket, which only the owner of the world may connect to.
pub fn listen(path: &Path, desk: Desk, tasks: &Tasks) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    // Its directory lets nobody else in, so that there is no moment in which others could connect.
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let own_tasks = tasks.clone();
    tasks.spawn("local.control", async move {
        loop {
            tokio::select! {
                () = own_tasks.drain().cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if own_tasks.len() < CONNECTIONS_LIMIT => {
                        own_tasks.spawn("local.request", serve(stream, desk.clone()));
                    }
                    Ok(_) => tracing::warn!("request refused: too many at once"),
                    Err(error) => {
                        tracing::warn!(%error, "request not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    });
    Ok(())
}

async fn serve(stream: UnixStream, desk: Desk) {
    let mut stream = BufReader::new(stream);
    let outcome = async {
        let request = protocol::read_line(&mut stream).await?;
        let mut rest = [0_u8; 1];
        let response = tokio::select! {
            response = answer(request, &desk) => response,
            // Nothing follows a request but its client's end, which takes it back.
            _ = stream.read(&mut rest) => return Ok(()),
        };
        protocol::write_line(&mut stream, &response).await
    };
    match outcome.await {
        Ok(()) | Err(LineError::Closed) => {}
        Err(error) => tracing::debug!(error = %Chain(&error), "request not answered"),
    }
}

async fn answer(request: Request, desk: &Desk) -> Response {
    match request {
        Request::Status => Response::Status(desk.status.borrow().clone()),
        Request::WaitReady { within } => wait_ready(desk, within).await,
        Request::Run(request) => {
            let (sender, receiver) = oneshot::channel();
            match desk.ask(Ask::Run(request, sender), receiver).await {
                Some(Ok(output)) => Response::Output(output),
                Some(Err(reason)) => Response::Failed { reason },
                None => ending(),
            }
        }
        Request::HttpGet { workload, port, path } => http_get(desk, &workload, port, &path).await,
        Request::Stop { target, signal } => {
            let (sender, receiver) = oneshot::channel();
            done(desk.ask(Ask::Stop(target, signal, sender), receiver).await)
        }
        Request::StartAgain { target } => {
            let (sender, receiver) = oneshot::channel();
            done(desk.ask(Ask::StartAgain(target, sender), receiver).await)
        }
        Request::Shutdown => {
            let (sender, receiver) = oneshot::channel();
            done(desk.ask(Ask::Shutdown(sender), receiver).await.map(Ok))
        }
    }
}

impl Desk {
    async fn ask<T>(&self, ask: Ask, answer: oneshot::Receiver<T>) -> Option<T> {
        self.asks.send(ask).await.ok()?;
        answer.await.ok()
    }
}

fn done(outcome: Option<Result<(), String>>) -> Response {
    match outcome {
        Some(Ok(())) => Response::Done,
        Some(Err(reason)) => Response::Failed { reason },
        None => ending(),
    }
}

fn ending() -> Response {
    Response::Failed { reason: "the local mesh is ending".to_owned() }
}

async fn wait_ready(desk: &Desk, within: Duration) -> Response {
    // A change of the directory that was made before this request counts.
    let (sender, receiver) = oneshot::channel();
    if desk.ask(Ask::Rescan(sender), receiver).await.is_none() {
        return ending();
    }
    let mut status = desk.status.clone();
    let all_ready = status.wait_for(|status| not_ready(status).is_empty());
    match timeout(within, all_ready).await {
        Ok(Ok(_)) => Response::Readiness { waiting: Vec::new() },
        Ok(Err(_closed)) => ending(),
        Err(_elapsed) => {
            let mut waiting: Vec<_> = {
                let status = desk.status.borrow();
                troubled(&status.control_plane).into_iter().chain(not_ready(&status)).collect()
            };
            for workload in &mut waiting {
                workload.log = log_tail(Path::new(&workload.log));
            }
            Response::Readiness { waiting }
        }
    }
}

/// The control plane, when it is why others wait; with the path of its log.
fn troubled(control_plane: &ProcessStatus) -> Option<NotReady> {
    let is_there = !control_plane.log.as_os_str().is_empty();
    let troubled = !control_plane.running || control_plane.restarts > 0;
    (is_there && troubled).then(|| NotReady {
        workload: control_plane.name.clone(),
        state: match control_plane.restarts {
            0 => control_plane.state.clone(),
            restarts => format!("{}, after {restarts} restarts", control_plane.state),
        },
        log: control_plane.log.to_string_lossy().into_owned(),
    })
}

/// The workloads that are not ready, with the path of the log to look at first.
fn not_ready(status: &LocalStatus) -> Vec<NotReady> {
    status
        .workloads
        .iter()
        .filter(|workload| !workload.ready && !workload.complete && !workload.ending)
        .map(|workload| NotReady {
            workload: format!("{}/{}", workload.namespace, workload.name),
            state: workload.state.clone(),
            log: workload
                .processes
                .iter()
                .find(|process| !process.running)
                .or(workload.processes.last())
                .map(|process| process.log.to_string_lossy().into_owned())
                .unwrap_or_default(),
        })
        .collect()
}

async fn http_get(desk: &Desk, workload: &str, port: u16, path: &str) -> Response {
    let address = {
        let status = desk.status.borrow();
        status.workload(workload).and_then(|workload| workload.addresses.first().copied())
    };
    let Some(address) = address else {
        return Response::Failed { reason: format!("there is no workload {workload}") };
    };
    match http::get(SocketAddr::new(address, port), path).await {
        Ok(answer) => Response::Http(answer),
        Err(error) => Response::Failed { reason: Chain(&error).to_string() },
    }
}

const CONNECTIONS_LIMIT: usize = 256;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_plane_that_does_not_stay_up_is_named_with_its_log() {
        let running = ProcessStatus {
            name: "control-plane".to_owned(),
            running: true,
            state: "running".to_owned(),
            log: "/logs/control-plane.log".into(),
            ..ProcessStatus::default()
        };
        assert_eq!(troubled(&running), None);
        assert_eq!(troubled(&ProcessStatus::default()), None, "there is none in this world");
        let down = ProcessStatus { running: false, state: "stopped".to_owned(), ..running.clone() };
        assert_eq!(troubled(&down).unwrap().state, "stopped");
        let named = troubled(&ProcessStatus { restarts: 3, ..running }).unwrap();
        assert_eq!(named.state, "running, after 3 restarts");
        assert_eq!(named.log, "/logs/control-plane.log");
    }
}
