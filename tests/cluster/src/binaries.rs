//! The mesh's own programs for images: linked statically, with what is optimized for a release.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context as _, Result, ensure};

/// Where the programs in the mesh's images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built here for a release, linked statically.
    Release,
    /// Already built, in this folder; with their libraries, if they are not linked statically.
    Folder(PathBuf),
    /// The cluster has no images of the mesh.
    None,
}

impl FromStr for Source {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "release" => Self::Release,
            "none" => Self::None,
            folder => Self::Folder(folder.into()),
        })
    }
}

impl Source {
    /// The folder with the programs, after building them if that is to be done.
    pub fn folder(&self, cache: &Path, say: impl FnOnce(&str)) -> Result<Option<PathBuf>> {
        match self {
            Self::None => Ok(None),
            Self::Folder(folder) => {
                let found = folder.canonicalize();
                Ok(Some(found.with_context(|| format!("find {}", folder.display()))?))
            }
            Self::Release => {
                say("building the mesh's programs for a release");
                build(cache).map(Some)
            }
        }
    }
}

fn build(cache: &Path) -> Result<PathBuf> {
    let target = cache.join("target");
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = Command::new("cargo");
    // Linked as the images' are.
    command.args(["--config", ".cargo/static.toml"]);
    command.args(["build", "--release", "--locked", "--bins", "--target", &triple]);
    command.args(CRATES.iter().flat_map(|name| ["-p", *name]));
    command.arg("--target-dir").arg(&target);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    // They would replace those of the file.
    command.env_remove("RUSTFLAGS");
    let status = command.status().context("start cargo")?;
    ensure!(status.success(), "cargo build: {status}");
    Ok(target.join(triple).join("release"))
}

const CRATES: [&str; 6] = [
    "heddle-cluster",
    "heddle-control-plane",
    "heddle-injector",
    "heddle-proxy",
    "heddle-tests",
    "meshctl",
];
