//! The process that keeps a world, as its owner holds it; and what has to be in order before it is started.

use std::fs::TryLockError;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::BufReader;
use tokio::time::timeout;

use crate::mesh::{ControlPlane, MeshConfig, StartError};
use crate::protocol::{self, Announcement, LineError};
use crate::state_directory::{Occupant, StateDirectory};

/// The process that keeps the world.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) child: Option<Child>,
    state: StateDirectory,
    /// Says that a world lives there until it says so itself.
    lock: Option<std::fs::File>,
    /// Open, since the world that failed has removed its files before anybody could read them.
    log: std::fs::File,
}

impl World {
    /// Starts it; `lock` is what [`prepare`] returned.
    pub(crate) fn spawn(
        config: &MeshConfig,
        state: &StateDirectory,
        lock: std::fs::File,
    ) -> Result<Self, StartError> {
        let program = config.binaries.path("heddle-local");
        let path = state.logs().join("world.log");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .and_then(|log| Ok((log.try_clone()?, log)));
        let (log, output) = log.map_err(|source| StartError::StateDirectory { path, source })?;
        let mut command = Command::new(&program);
        if !config.detach {
            // A Ctrl-C of the terminal is for the owner, who then ends the world in good order. A world
            // that is detached makes a session of its own, which the leader of a group may not.
            command.process_group(0);
        }
        let child = command
            .arg("world")
            .arg("--state-directory")
            .arg(state.path())
            .stdin(if config.detach { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(output)
            .spawn()
            .map_err(|source| StartError::Spawn { program, source })?;
        Ok(Self { child: Some(child), state: state.clone(), lock: Some(lock), log })
    }

    /// What it says of itself, once.
    pub(crate) async fn announcement(&mut self) -> Result<Announcement, StartError> {
        let output = self.child.as_mut().and_then(|child| child.stdout.take());
        let read = async {
            let output = tokio::process::ChildStdout::from_std(output.ok_or(LineError::Closed)?)?;
            protocol::read_line(&mut BufReader::new(output)).await
        };
        let read = timeout(ANNOUNCED_WITHIN, read).await;
        // It holds the lock itself by now, or it has failed and wants to remove its files.
        self.lock = None;
        match read {
            Ok(Ok(announcement)) => Ok(announcement),
            Ok(Err(error)) => Err(StartError::World {
                reason: format!("{error}; its log begins with:\n{}", self.log_head()),
            }),
            Err(_elapsed) => Err(StartError::World {
                reason: format!(
                    "nothing within {ANNOUNCED_WITHIN:?}; its log begins with:\n{}",
                    self.log_head()
                ),
            }),
        }
    }

    fn log_head(&self) -> String {
        let mut text = vec![0; LOG_TAIL_BYTES];
        let count = self.log.read_at(&mut text, 0).unwrap_or_default();
        text.truncate(count);
        String::from_utf8_lossy(&text).trim().to_owned()
    }
}

impl Drop for World {
    /// Ends the world, which is quick: its end of the pipe closes, its first process ends, and the kernel ends the rest.
    fn drop(&mut self) {
        self.lock = None;
        let Some(mut child) = self.child.take() else { return };
        drop(child.stdin.take());
        for _ in 0..END_ATTEMPTS {
            match child.try_wait() {
                Ok(None) => std::thread::sleep(POLL_PAUSE),
                Ok(Some(_)) | Err(_) => break,
            }
        }
        // Errors mean that it is gone, which is what is wanted.
        let _ = child.kill();
        let _ = child.wait();
        if let Err(error) = self.state.remove() {
            tracing::warn!(%error, path = %self.state.path().display(), "state directory not removed");
        }
    }
}

/// The end of a log, for an error message.
pub(crate) fn log_tail(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let start = bytes.len().saturating_sub(LOG_TAIL_BYTES);
    String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).trim().to_owned()
}

/// The world has another working directory.
pub(crate) fn absolute(mut config: MeshConfig) -> Result<MeshConfig, StartError> {
    for path in [&mut config.directory, &mut config.state_directory, &mut config.binaries.directory]
    {
        *path = std::path::absolute(&*path)
            .map_err(|source| StartError::Directory { path: path.clone(), source })?;
    }
    Ok(config)
}

/// Finds out what can be found out before anything is started.
pub(crate) fn check(config: &MeshConfig) -> Result<(), StartError> {
    if let Err(source) = std::fs::read_dir(&config.directory) {
        return Err(StartError::Directory { path: config.directory.clone(), source });
    }
    let needed: &[&str] = match config.control_plane {
        ControlPlane::Run => &["heddle-local", "heddle-proxy", "heddle-control-plane"],
        ControlPlane::None => &["heddle-local"],
    };
    let missing: Vec<_> =
        needed.iter().copied().filter(|name| !config.binaries.path(name).is_file()).collect();
    if !missing.is_empty() {
        return Err(StartError::MissingBinaries {
            directory: config.binaries.directory.clone(),
            build: missing.iter().fold("cargo build".to_owned(), |text, name| text + " -p " + name),
            missing: missing.join(", "),
        });
    }
    let socket = StateDirectory::new(&config.state_directory).control_socket();
    if socket.as_os_str().len() > SOCKET_PATH_LIMIT_BYTES {
        return Err(StartError::PathTooLong(config.state_directory.clone()));
    }
    Ok(())
}

/// Makes the state directory, also where a world that was killed has left one. The lock that is returned keeps others
/// from doing the same.
pub(crate) fn prepare(
    config: &MeshConfig,
    state: &StateDirectory,
) -> Result<std::fs::File, StartError> {
    let failed = |source| StartError::StateDirectory { path: state.path().to_owned(), source };
    let locked = |error| match error {
        TryLockError::WouldBlock => StartError::AlreadyRunning(state.path().to_owned()),
        TryLockError::Error(source) => failed(source),
    };
    match state.occupant().map_err(failed)? {
        Occupant::Nobody => {}
        Occupant::Remains => state.remove().map_err(failed)?,
        Occupant::World => return Err(StartError::AlreadyRunning(state.path().to_owned())),
        Occupant::SomethingElse => return Err(StartError::NotAWorld(state.path().to_owned())),
    }
    state.create().map_err(failed)?;
    let alone = state.lock_alone().map_err(locked)?;
    let text = serde_json::to_vec_pretty(config).map_err(|error| failed(error.into()))?;
    let mut file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(state.config())
        .map_err(failed)?;
    file.write_all(&text).map_err(failed)?;
    // Fails if somebody else was faster in the moment in between, who has replaced it all.
    drop(alone);
    state.lock_living().map_err(locked)
}

/// From the start of the process to its namespaces, bridge and control socket.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(20);
const POLL_PAUSE: Duration = Duration::from_millis(5);
/// Times [`POLL_PAUSE`]: five seconds until the world is killed instead.
const END_ATTEMPTS: usize = 1000;
/// `sockaddr_un.sun_path` with its terminating zero, unix(7).
const SOCKET_PATH_LIMIT_BYTES: usize = 107;
const LOG_TAIL_BYTES: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_that_is_starting_is_neither_replaced_nor_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(temporary.path().join("state"));
        let config = MeshConfig::new("test", temporary.path()).unwrap();
        let lock = prepare(&config, &state).unwrap();
        let again = prepare(&config, &state);
        assert!(matches!(again, Err(StartError::AlreadyRunning(_))), "{again:?}");
        state.remove().unwrap();
        assert!(state.config().exists());
        drop(lock);
        drop(prepare(&config, &state).unwrap());
        state.remove().unwrap();
        assert!(!state.path().exists());
    }
}
