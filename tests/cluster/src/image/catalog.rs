//! The images that a cluster has: the mesh's own, and those of the applications that tests deploy. Each is made once for
//! the files that it is made from.

mod postgres;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::{Entry, Image, PAUSE_IMAGE, Settings, hex, program};

/// Makes the archives of all images that can be made here, in the cache folder; those of the mesh from the programs in
/// the folder `binaries`. The second list tells of what could not be made, and why.
pub fn make(binaries: Option<&Path>, cache: &Path) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let folder = cache.join("images");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let mut archives = Vec::new();
    let mut missing = Vec::new();
    let busybox = Path::new(BUSYBOX).to_owned();
    ensure!(busybox.exists(), "no {BUSYBOX}: install busybox-static");
    archives.push(once(&folder, "pause", std::slice::from_ref(&busybox), |_| Ok(pause()))?);
    let curl = Path::new(CURL).to_owned();
    let shell: Vec<PathBuf> = [busybox, curl].into_iter().filter(|path| path.exists()).collect();
    archives.push(once(&folder, "busybox", &shell, busybox_image)?);
    match postgres::Installation::find() {
        Some(installation) => {
            let sources = [installation.program("postgres")];
            archives
                .push(once(&folder, "postgres", &sources, |scratch| installation.image(scratch))?);
        }
        None => missing.push("postgres: no PostgreSQL is installed".to_owned()),
    }
    if let Some(binaries) = binaries {
        for plan in MESH {
            let source = binaries.join(plan.program);
            if source.exists() {
                archives.push(once(&folder, plan.image, &plan.sources(binaries), |scratch| {
                    plan.image(binaries, scratch)
                })?);
            } else {
                missing.push(format!("heddle/{}: there is no {}", plan.image, source.display()));
            }
        }
    }
    Ok((archives, missing))
}

/// An image of the mesh.
struct Plan {
    image: &'static str,
    program: &'static str,
    user: &'static str,
    /// What its program may have, whoever starts it; see [`Capabilities`](super::capabilities::Capabilities).
    capabilities: &'static str,
    kind: Kind,
}

enum Kind {
    /// Nothing but the program.
    Bare,
    /// An application, with a shell and the programs that tests talk to each other with.
    Application(&'static [&'static str]),
}

const MESH: [Plan; 4] = [
    Plan {
        image: "control-plane",
        program: "heddle-control-plane",
        user: UNPRIVILEGED,
        capabilities: "",
        kind: Kind::Bare,
    },
    Plan {
        image: "injector",
        program: "heddle-injector",
        user: UNPRIVILEGED,
        capabilities: "",
        kind: Kind::Bare,
    },
    Plan {
        image: "proxy",
        program: "heddle-proxy",
        user: "",
        // For `heddle-proxy redirect`, which need not be root then; see install/images/proxy.Dockerfile.
        capabilities: "cap_net_admin",
        kind: Kind::Bare,
    },
    Plan {
        image: "shop",
        program: "meshctl",
        user: UNPRIVILEGED,
        capabilities: "",
        kind: Kind::Application(&[
            "echo",
            "heddle-test-adversary",
            "heddle-test-collector",
            "heddle-test-grpc",
            "heddle-test-http2",
            "heddle-test-peer",
        ]),
    },
];

impl Plan {
    fn sources(&self, binaries: &Path) -> Vec<PathBuf> {
        let others: &[&str] = match self.kind {
            Kind::Bare => &[],
            Kind::Application(others) => others,
        };
        let all = [self.program].into_iter().chain(others.iter().copied());
        all.map(|name| binaries.join(name)).filter(|path| path.exists()).collect()
    }

    fn image(&self, binaries: &Path, scratch: &TempDir) -> Result<Image> {
        let settings = Settings {
            entrypoint: vec![format!("/{}", self.program)],
            user: self.user.to_owned(),
            environment: vec!["PATH=/:/bin".to_owned()],
            ..Settings::default()
        };
        let name = format!("heddle/{}:{VERSION}", self.image);
        let mut image = Image::new(&name, settings);
        for source in self.sources(binaries) {
            let file = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
            program::put(&mut image, &format!("/{file}"), &source, scratch)?;
        }
        if !self.capabilities.is_empty() {
            image.grant(format!("/{}", self.program), self.capabilities.parse()?);
        }
        match self.kind {
            Kind::Bare => {}
            Kind::Application(_) => put_shell(&mut image)?,
        }
        Ok(image)
    }
}

/// What holds a pod's namespaces. It need not end when asked to: the runtime kills it.
fn pause() -> Image {
    let entrypoint = ["/busybox", "sleep", "2000000000"].map(ToOwned::to_owned).to_vec();
    let mut image = Image::new(PAUSE_IMAGE, Settings { entrypoint, ..Settings::default() });
    image.put("/busybox", Entry::Copy(BUSYBOX.into()));
    image
}

fn busybox_image(scratch: &TempDir) -> Result<Image> {
    let settings = Settings {
        command: vec!["sh".to_owned()],
        environment: vec!["PATH=/bin".to_owned()],
        ..Settings::default()
    };
    let mut image = Image::new("busybox:1", settings);
    put_shell(&mut image)?;
    // Where it is installed: it says more of an answer than wget does.
    if Path::new(CURL).exists() {
        program::put(&mut image, "/bin/curl", Path::new(CURL), scratch)?;
    }
    Ok(image)
}

/// A shell and the usual small programs.
fn put_shell(image: &mut Image) -> Result<()> {
    image.put("/bin/busybox", Entry::Copy(BUSYBOX.into()));
    let output = Command::new(BUSYBOX).arg("--list").output().context("list busybox's programs")?;
    for name in String::from_utf8_lossy(&output.stdout).lines().filter(|name| *name != "busybox") {
        image.put(format!("/bin/{name}"), Entry::Link("busybox".into()));
    }
    image.put("/tmp", Entry::Folder(0o1777));
    let users = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
    image.put("/etc/passwd", Entry::Text(users.to_owned(), 0o644));
    image.put("/etc/group", Entry::Text("root:x:0:\nnogroup:x:65534:\n".to_owned(), 0o644));
    Ok(())
}

/// The archive of an image, made unless there is one of the same sources.
fn once(
    folder: &Path,
    name: &str,
    sources: &[PathBuf],
    make: impl FnOnce(&TempDir) -> Result<Image>,
) -> Result<PathBuf> {
    let archive = folder.join(format!("{name}-{}.tar", key(sources)?));
    if !archive.exists() {
        let scratch = tempfile::tempdir()?;
        make(&scratch)?.write(&archive)?;
        forget_old(folder, name, &archive)?;
    }
    Ok(archive)
}

/// Programs of the same path, size and time are the same.
fn key(sources: &[PathBuf]) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(FORMAT);
    for source in sources {
        let found = fs::metadata(source).with_context(|| format!("find {}", source.display()))?;
        let facts = (source, found.len(), found.mtime(), found.mtime_nsec());
        hash.update(format!("{facts:?}"));
    }
    Ok(hex(hash.finalize().get(..KEY_BYTES).unwrap_or_default()))
}

/// Removes archives of the image that were made from programs of long ago.
fn forget_old(folder: &Path, name: &str, newest: &Path) -> Result<()> {
    let limit = fs::metadata(newest)?.mtime() - KEEP_SECONDS;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_string_lossy().starts_with(&format!("{name}-"));
        if is_ours && entry.metadata().is_ok_and(|found| found.mtime() < limit) {
            // Another process may have removed it.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Linked statically, so that it runs in an image with nothing else in it.
const BUSYBOX: &str = "/bin/busybox";
const CURL: &str = "/usr/bin/curl";
/// The tag of the mesh's images.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// As the charts have it.
const UNPRIVILEGED: &str = "65532";
const KEY_BYTES: usize = 8;
const KEEP_SECONDS: i64 = 60 * 60;
/// To be changed with what images are made from the same sources.
const FORMAT: &str = "3";
