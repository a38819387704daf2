//! Builds Kubernetes once, from the Go module beside this crate, into the cache folder.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use crate::component::tail;
use crate::image::hex;

/// The folder with the programs, built unless it is there. `say` is told when something takes long.
///
/// Fails without Go, and where a module cannot be had.
pub fn build(cache: &Path, say: impl FnOnce(&str)) -> Result<PathBuf> {
    let version = version()?;
    let folder = cache.join("kubernetes").join(format!("{version}-{}", key()));
    let programs = folder.join("programs");
    if programs.exists() {
        return Ok(programs);
    }
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let lock = File::create(folder.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context("wait for another build")?;
    if programs.exists() {
        return Ok(programs);
    }
    say(&format!("building Kubernetes {version}, once; it takes some minutes"));
    let unfinished = folder.join("unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    fs::create_dir_all(&unfinished)?;
    for (name, text) in SOURCES {
        fs::write(unfinished.join(name), text)?;
    }
    compile(&unfinished, &folder.join("build.log"), version)?;
    for (name, _) in SOURCES {
        fs::remove_file(unfinished.join(name))?;
    }
    for name in NAMES {
        symlink(PROGRAM, unfinished.join(name))?;
    }
    fs::rename(&unfinished, &programs).context("put the programs in their place")?;
    Ok(programs)
}

/// The version of Kubernetes, such as `v1.34.4`.
pub fn version() -> Result<&'static str> {
    let wanted = "k8s.io/kubernetes ";
    let (_, rest) = GO_MOD.split_once(wanted).context("go.mod requires no k8s.io/kubernetes")?;
    rest.split_whitespace().next().context("go.mod names no version of k8s.io/kubernetes")
}

fn compile(folder: &Path, log: &Path, version: &str) -> Result<()> {
    let [major, minor, _] = version.trim_start_matches('v').split('.').collect::<Vec<_>>()[..]
    else {
        bail!("{version} is no version such as v1.34.4")
    };
    // What the programs say they are. Clients and the mesh decide by it.
    let base = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {base}.gitVersion={version} -X {base}.gitMajor={major} -X {base}.gitMinor={minor} \
         -X k8s.io/client-go/pkg/version.gitVersion={version}"
    );
    let file = File::create(log)?;
    let status = Command::new("go")
        .args(["build", "-trimpath", "-o", PROGRAM, "-ldflags", &flags, "."])
        .current_dir(folder)
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .context("start go, which builds Kubernetes: install Go 1.24 or later")?;
    ensure!(status.success(), "go build: {status}; the end of {}:\n{}", log.display(), tail(log));
    Ok(())
}

fn key() -> String {
    let mut hash = Sha256::new();
    for (name, text) in SOURCES {
        hash.update(name);
        hash.update(text);
    }
    hex(hash.finalize().get(..KEY_BYTES).unwrap_or_default())
}

const GO_MOD: &str = include_str!("../kubernetes/go.mod");
const SOURCES: [(&str, &str); 3] = [
    ("go.mod", GO_MOD),
    ("go.sum", include_str!("../kubernetes/go.sum")),
    ("main.go", include_str!("../kubernetes/main.go")),
];
/// One program, which does what it is called.
const PROGRAM: &str = "kubernetes";
const NAMES: [&str; 6] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
];
const KEY_BYTES: usize = 8;
