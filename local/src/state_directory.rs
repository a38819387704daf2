//! Where a world keeps its files, and whether a world lives there. What is in the files belongs to those who write them.

mod ownership;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
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

    /// Who is there. Fails where somebody else may have put it there.
    pub fn occupant(&self) -> io::Result<Occupant> {
        match self.check_private() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::Nobody),
            other => other?,
        }
        if std::fs::read_dir(&self.0)?.next().is_none() {
            return Ok(Occupant::Nobody);
        }
        if !self.config().exists() {
            return Ok(Occupant::SomethingElse);
        }
        match self.lock_now(File::try_lock) {
            Ok(_released_at_once) => Ok(Occupant::Remains),
            Err(TryLockError::WouldBlock) => Ok(Occupant::World),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Occupant::Remains)
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Fails unless it is a directory of this user's that nobody else may look into.
    pub fn check_private(&self) -> io::Result<()> {
        ownership::check_private(&self.0)
    }

    /// Takes the lock that says that a world lives here, or is about to; it is held until the file is dropped. Both who
    /// starts a world and the world itself hold it, so that there is no moment in between in which nobody does.
    pub fn lock_living(&self) -> Result<File, TryLockError> {
        self.lock_soon(File::try_lock_shared)
    }

    /// Takes the lock that says that the files here are being made or removed; fails where a world lives.
    pub fn lock_alone(&self) -> Result<File, TryLockError> {
        self.lock_soon(File::try_lock)
    }

    /// Whoever only looks who is here holds the lock for a moment too.
    fn lock_soon(&self, attempt: LockAttempt) -> Result<File, TryLockError> {
        for _ in 0..LOCK_ATTEMPTS {
            match self.lock_now(attempt) {
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                other => return other,
            }
        }
        self.lock_now(attempt)
    }

    fn lock_now(&self, attempt: LockAttempt) -> Result<File, TryLockError> {
        let identity = |file: std::fs::Metadata| (file.dev(), file.ino());
        let opened = OpenOptions::new().read(true).write(true).open(self.lock());
        let file = opened.map_err(TryLockError::Error)?;
        attempt(&file)?;
        let held = file.metadata().map(identity).map_err(TryLockError::Error)?;
        let there = self.lock().symlink_metadata().map(identity).map_err(TryLockError::Error)?;
        // Somebody has replaced the world in the meantime: this is the lock of the one that is gone.
        if held == there { Ok(file) } else { Err(TryLockError::WouldBlock) }
    }

    /// Makes the directory and those within it, for the owner only. Fails where others could replace what is in it.
    pub fn create(&self) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        if let Some(parent) = self.0.parent() {
            builder.create(parent)?;
            ownership::check_parent(parent)?;
        }
        builder.create(&self.0)?;
        self.check_private()?;
        for directory in [
            self.manifests(),
            self.control_plane(),
            self.logs(),
            self.0.join("workloads"),
            self.0.join("etc"),
        ] {
            builder.create(directory)?;
        }
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.lock())?;
        Ok(())
    }

    /// Removes everything, unless a world lives here: it may be another one by now. Gone at once as seen from outside,
    /// since half of a world is nothing that anybody could tell what it is.
    pub fn remove(&self) -> io::Result<()> {
        let _lock = match self.lock_alone() {
            Ok(lock) => Some(lock),
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::NotFound => {
                if !self.config().exists() {
                    return Ok(());
                }
                None
            }
            Err(TryLockError::Error(error)) => return Err(error),
        };
        let mut name = std::ffi::OsString::from(".");
        name.push(self.0.file_name().unwrap_or_default());
        name.push(format!(".removed-{}", std::process::id()));
        let aside = self.0.with_file_name(name);
        match std::fs::rename(&self.0, &aside) {
            Ok(()) => remove_all(&aside),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // Where the directory above cannot be written.
            Err(_) => remove_all(&self.0),
        }
    }
}

type LockAttempt = fn(&File) -> Result<(), TryLockError>;

/// Tries again for a while, since a process that was killed may write until it is gone.
fn remove_all(directory: &Path) -> io::Result<()> {
    let mut outcome = Ok(());
    for _ in 0..REMOVE_ATTEMPTS {
        outcome = match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        if outcome.is_ok() {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    outcome
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
    let root = default_root();
    let checked = ownership::check_parent(&root).and_then(|()| std::fs::read_dir(root));
    let entries = match checked {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(worlds),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        // What is left of one that is being removed is hidden.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let state_directory = entry.path();
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
/// Times [`PAUSE`]: what a look takes, on a machine that is busy.
const LOCK_ATTEMPTS: usize = 10;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

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
        let locks = [state.lock_living().unwrap(), state.lock_living().unwrap()];
        for lock in locks {
            assert!(matches!(state.occupant().unwrap(), Occupant::World));
            state.remove().unwrap();
            assert!(state.config().exists(), "a world that lives is not removed");
            drop(lock);
        }
        assert!(matches!(state.occupant().unwrap(), Occupant::Remains));
        state.remove().unwrap();
        assert!(matches!(state.occupant().unwrap(), Occupant::Nobody));
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "nor elsewhere");
        state.remove().unwrap();
    }

    #[test]
    fn the_lock_of_a_world_that_was_replaced_is_no_lock() {
        let temporary = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(temporary.path().join("world"));
        state.create().unwrap();
        let former = state.lock_alone().unwrap();
        std::fs::remove_file(state.lock()).unwrap();
        state.create().unwrap();
        let _own = state.lock_alone().unwrap();
        assert!(matches!(state.lock_living(), Err(TryLockError::WouldBlock)));
        drop(former);
        assert!(matches!(state.lock_living(), Err(TryLockError::WouldBlock)));
    }

    #[test]
    fn a_directory_that_somebody_else_may_have_filled_is_not_used() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let temporary = tempfile::tempdir().unwrap();
        let elsewhere = temporary.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        let state = StateDirectory::new(temporary.path().join("world"));
        symlink(&elsewhere, state.path()).unwrap();
        assert!(state.create().is_err() && state.occupant().is_err());
        std::fs::remove_file(state.path()).unwrap();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(temporary.path(), open).unwrap();
        let error = state.create().unwrap_err().to_string();
        assert!(error.contains("may be written by others"), "{error}");
        assert!(!state.path().exists());
    }
}
