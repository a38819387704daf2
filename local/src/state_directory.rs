//! Where a world keeps its files, and whether a world lives there. What is in the files belongs to those who write them.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The paths of one world's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDirectory(PathBuf);

/// What is found where a world keeps its files.
#[derive(Debug)]
pub enum Occupant {
    /// Nothing, or an empty directory.
    Nobody,
    /// What a world that was killed has left behind.
    Remains,
    /// A running world.
    World,
    /// Files that are not of a world.
    SomethingElse,
}

impl StateDirectory {
    /// The world that keeps its files in `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// How the world was asked for; its presence marks a directory as a world's.
    pub fn config(&self) -> PathBuf {
        self.0.join("world.json")
    }

    /// Locked for as long as the world lives.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Where the world listens for requests: see [`crate::protocol`].
    pub fn control_socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// Where the control plane listens for `heddle.admin.v1`.
    pub fn admin_socket(&self) -> PathBuf {
        self.0.join("admin.sock")
    }

    /// The Kubernetes objects that the control plane reads.
    pub fn manifests(&self) -> PathBuf {
        self.0.join("manifests")
    }

    /// The control plane's own state.
    pub fn control_plane(&self) -> PathBuf {
        self.0.join("control-plane")
    }

    /// The trust anchors, which the control plane writes.
    pub fn trust_anchors(&self) -> PathBuf {
        self.control_plane().join("trust-anchors.pem")
    }

    /// The hashes of the join tokens.
    pub fn join_tokens(&self) -> PathBuf {
        self.0.join("join-tokens.json")
    }

    /// One file per process.
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// The file `name` of one workload.
    pub fn workload(&self, pod_uid: &str, name: &str) -> PathBuf {
        self.0.join("workloads").join(pod_uid).join(name)
    }

    /// Files that stand in for those of the same name in `/etc`, inside of workloads.
    pub fn etc(&self, name: &str) -> PathBuf {
        self.0.join("etc").join(name)
    }

    /// Who is there.
    pub fn occupant(&self) -> io::Result<Occupant> {
        let mut entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::Nobody),
            Err(error) => return Err(error),
        };
        if entries.next().is_none() {
            return Ok(Occupant::Nobody);
        }
        if !self.config().exists() {
            return Ok(Occupant::SomethingElse);
        }
        match self.try_lock() {
            Ok(_released_at_once) => Ok(Occupant::Remains),
            Err(TryLockError::WouldBlock) => Ok(Occupant::World),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Occupant::Remains)
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Takes the lock that says that a world lives here; it is held until the file is dropped.
    pub fn try_lock(&self) -> Result<File, TryLockError> {
        let opened = OpenOptions::new().read(true).write(true).open(self.lock());
        let file = opened.map_err(TryLockError::Error)?;
        file.try_lock()?;
        Ok(file)
    }

    /// Makes the directory and those within it, for the owner only.
    pub fn create(&self) -> io::Result<()> {
        for directory in [
            self.0.clone(),
            self.manifests(),
            self.control_plane(),
            self.logs(),
            self.0.join("workloads"),
            self.0.join("etc"),
        ] {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.lock())?;
        Ok(())
    }

    /// Removes everything. Tries again for a while, since a process that was killed may write until it is gone.
    pub fn remove(&self) -> io::Result<()> {
        let mut outcome = Ok(());
        for _ in 0..REMOVE_ATTEMPTS {
            outcome = match std::fs::remove_dir_all(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            };
            if outcome.is_ok() {
                break;
            }
            std::thread::sleep(REMOVE_PAUSE);
        }
        outcome
    }
}

/// A world that runs now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningWorld {
    /// The name it was given.
    pub name: String,
    /// Where it keeps its files: what [`crate::mesh::Mesh::attach`] takes.
    pub state_directory: PathBuf,
}

/// The worlds of this user that run now, by name; those that keep their files in [`default_root`].
pub fn running_worlds() -> io::Result<Vec<RunningWorld>> {
    let mut worlds = Vec::new();
    let entries = match std::fs::read_dir(default_root()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(worlds),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let state_directory = entry?.path();
        let lives = matches!(StateDirectory::new(&state_directory).occupant(), Ok(Occupant::World));
        if let Some(name) = state_directory.file_name().filter(|_| lives) {
            worlds
                .push(RunningWorld { name: name.to_string_lossy().into_owned(), state_directory });
        }
    }
    worlds.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(worlds)
}

/// Where the world called `name` keeps its files unless told otherwise.
pub fn default_path(name: &str) -> PathBuf {
    default_root().join(name)
}

/// `$XDG_RUNTIME_DIR/heddle`, which is emptied at logout; without that variable `heddle-<uid>` in the temporary directory.
pub fn default_root() -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()).map_or_else(
        || std::env::temp_dir().join(format!("heddle-{}", nix::unistd::geteuid())),
        |path| PathBuf::from(path).join("heddle"),
    )
}

const REMOVE_ATTEMPTS: usize = 100;
const REMOVE_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_is_told_from_its_remains_by_its_lock() {
        let temporary = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(temporary.path().join("world"));
        assert!(matches!(state.occupant().unwrap(), Occupant::Nobody));
        state.create().unwrap();
        assert!(matches!(state.occupant().unwrap(), Occupant::SomethingElse));
        std::fs::write(state.config(), "{}").unwrap();
        assert!(matches!(state.occupant().unwrap(), Occupant::Remains));
        let lock = state.try_lock().unwrap();
        assert!(matches!(state.occupant().unwrap(), Occupant::World));
        drop(lock);
        assert!(matches!(state.occupant().unwrap(), Occupant::Remains));
        state.remove().unwrap();
        assert!(matches!(state.occupant().unwrap(), Occupant::Nobody));
    }
}
