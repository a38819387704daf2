//! Where a cluster keeps its files, and the lock that tells whether it lives.
//!
//! Everything is below one directory that is removed with the cluster. Only the lock and the last logs are in the cache
//! folder, which outlives clusters.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{Flock, FlockArg};

/// The name of a cluster: several may live at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl std::str::FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let good = !text.is_empty()
            && text.len() <= NAME_LIMIT_BYTES
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        ensure!(
            good,
            "the name {text:?} is not 1 to {NAME_LIMIT_BYTES} small letters and digits, such as \"heddle\""
        );
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The files of a cluster.
#[derive(Clone, Debug)]
pub struct Directory {
    name: Name,
    path: PathBuf,
    cache: PathBuf,
}

impl Directory {
    /// Of the cluster with this name; makes nothing.
    pub fn new(name: &Name) -> Result<Self> {
        let path = Path::new(PARENT).join(format!("heddle-cluster-{name}"));
        Ok(Self { name: name.clone(), path, cache: cache()? })
    }

    /// The cluster's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The administrator's kubeconfig, for this machine's own network namespace.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    /// The administrator's kubeconfig, for inside.
    pub fn inner_kubeconfig(&self) -> PathBuf {
        self.path.join("pki/admin.kubeconfig")
    }

    /// Certificates and keys.
    pub fn pki(&self) -> PathBuf {
        self.path.join("pki")
    }

    /// What every process writes.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// The socket on which a node takes commands.
    pub fn node_socket(&self, number: u8) -> PathBuf {
        self.path.join(format!("node{number}.sock"))
    }

    /// A node's files.
    pub fn node(&self, number: u8) -> PathBuf {
        self.path.join(format!("node{number}"))
    }

    /// The options that the cluster was started with.
    pub fn options(&self) -> PathBuf {
        self.path.join("options.json")
    }

    /// The number of a living cluster's outermost process, which ends it when asked to by a signal.
    pub fn process(&self) -> PathBuf {
        self.path.join("process")
    }

    /// Where the logs go when the cluster ends.
    pub fn last_logs(&self) -> PathBuf {
        self.cache.join("logs").join(self.name.to_string())
    }

    /// The name of the cgroup below which everything of this cluster is.
    pub fn cgroup(&self) -> String {
        format!("heddle-cluster-{}", self.name)
    }

    /// Takes the lock that a living cluster holds; none when another holds it.
    pub fn try_lock(&self) -> Result<Option<Flock<File>>> {
        let folder = self.cache.join("locks");
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let path = folder.join(self.name.to_string());
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno).with_context(|| format!("lock {}", path.display())),
        }
    }

    /// Keeps the logs of a cluster that ended, and removes everything else.
    pub fn remove(&self) -> Result<()> {
        let kept = self.last_logs();
        remove_if_there(&kept)?;
        if let Some(parent) = kept.parent() {
            fs::create_dir_all(parent)?;
        }
        // On another file system they are not worth copying.
        let _ = fs::rename(self.logs(), &kept);
        remove_if_there(&self.path)
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("remove {}", path.display())),
    }
}

/// The folder for what is worth keeping between clusters.
pub fn cache() -> Result<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "this is where the setting is read")]
    let home = std::env::var("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|_| std::env::var("HOME").map(|home| Path::new(&home).join(".cache")))
        .context("no cache folder: set HOME or XDG_CACHE_HOME")?;
    Ok(home.join("heddle"))
}

/// On disk, since image layers are unpacked here, and with a short path, since sockets are.
const PARENT: &str = "/var/tmp";
/// Part of paths of sockets, which the kernel limits to 108 bytes.
const NAME_LIMIT_BYTES: usize = 20;
