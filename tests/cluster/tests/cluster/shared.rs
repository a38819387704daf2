//! The cluster that the tests share, and namespaces of their own in it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use heddle_cluster::binaries::Source;
use heddle_cluster::cluster::Cluster;
use heddle_cluster::image::catalog;
use heddle_cluster::options::Options;
use heddle_cluster::{directory, kubernetes, requirements};
use tokio::sync::OnceCell;

/// `heddle-cluster`, which clusters are started with.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_heddle-cluster"))
}

/// The cluster, started by the first test that wants it.
pub(crate) async fn cluster() -> Result<&'static Cluster> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let start = async || match setting("HEDDLE_CLUSTER") {
        Some(name) => Cluster::attach(&name.parse()?),
        None => Box::pin(Cluster::start(program(), options("tests", &binaries()).await?)).await,
    };
    CLUSTER.get_or_try_init(start).await
}

/// A cluster of this name for a test that changes what others rely on, and whether it is this test's to end.
/// One that is up already may be named, but not the one that the others share.
pub(crate) async fn of_ones_own(name: &str) -> Result<(Cluster, bool)> {
    match setting("HEDDLE_INSTALL_CLUSTER") {
        Some(name) => Ok((Cluster::attach(&name.parse()?)?, false)),
        None => {
            let options = options(name, &binaries()).await?;
            Ok((Box::pin(Cluster::start(program(), options)).await?, true))
        }
    }
}

/// A program of the mesh, of those that its images are made of.
pub(crate) fn mesh_program(name: &str) -> Result<PathBuf> {
    let folder = binaries().folder(&directory::cache()?, |text| eprintln!("{text}"))?;
    let folder = folder.context("HEDDLE_CLUSTER_BINARIES says none: there is no such program")?;
    Ok(folder.join(name))
}

/// What a cluster of this name is started with.
pub(crate) async fn options(name: &str, binaries: &Source) -> Result<Options> {
    requirements::check()?;
    let cache = directory::cache()?;
    let programs = kubernetes::build(&cache, |text| eprintln!("{text}"))?;
    let folder = binaries.folder(&cache, |text| eprintln!("{text}"))?;
    let (images, missing) = catalog::make(folder.as_deref(), &cache)?;
    for reason in missing {
        eprintln!("no image {reason}");
    }
    Ok(Options { images, wait: PATIENCE, ..Options::new(&name.parse()?, programs) })
}

/// How long one of the same name may take to end: it does so after the process that used it.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn binaries() -> Source {
    setting("HEDDLE_CLUSTER_BINARIES").map_or(Source::Release, |folder| {
        // Never fails: whatever is no word of its own is a folder.
        folder.parse().unwrap_or(Source::Folder(PathBuf::from(folder)))
    })
}

fn setting(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "tests have no other settings than these")]
    std::env::var(name).ok()
}

/// A namespace that no other test uses.
pub(crate) async fn namespace(cluster: &Cluster, theme: &str) -> Result<String> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("{theme}-{}-{number}", std::process::id());
    cluster.kubectl(&["create", "namespace", &name], "").await?;
    Ok(name)
}
