//! An image of one layer, written as the archive that `docker save` writes: containerd takes it without a registry.

pub mod capabilities;
pub mod catalog;
pub mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::worker::CONTAINERD_SOCKET;
use capabilities::Capabilities;

/// What an image is made from.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    entries: BTreeMap<PathBuf, Entry>,
    capabilities: BTreeMap<PathBuf, Capabilities>,
    settings: Settings,
}

/// How containers of an image run, unless the pod says otherwise.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What runs.
    pub entrypoint: Vec<String>,
    /// Its arguments.
    pub command: Vec<String>,
    /// Its environment, as `NAME=value`.
    pub environment: Vec<String>,
    /// As whom, such as `65532`; the superuser when empty.
    pub user: String,
}

/// Something in an image's file system.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A folder with these permissions.
    Folder(u32),
    /// A copy of a file, with its permissions.
    Copy(PathBuf),
    /// A file with this text and these permissions.
    Text(String, u32),
    /// A link to this path.
    Link(PathBuf),
}

impl Image {
    /// An image of this name, such as `heddle/proxy:0.1.0`, with nothing in it.
    pub fn new(name: &str, settings: Settings) -> Self {
        let (entries, capabilities) = (BTreeMap::new(), BTreeMap::new());
        Self { name: name.to_owned(), entries, capabilities, settings }
    }

    /// Puts something at an absolute path, instead of what was there.
    pub fn put(&mut self, path: impl Into<PathBuf>, entry: Entry) {
        self.entries.insert(path.into(), entry);
    }

    /// Gives the program at a path these capabilities, whoever starts it.
    pub fn grant(&mut self, path: impl Into<PathBuf>, capabilities: Capabilities) {
        self.capabilities.insert(path.into(), capabilities);
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes the archive.
    pub fn write(&self, archive: &Path) -> Result<()> {
        let layer = self.layer().with_context(|| format!("make the image {}", self.name))?;
        let Settings { entrypoint, command, environment, user } = &self.settings;
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": entrypoint, "Cmd": command, "Env": environment,
                "User": user, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
        });
        let config = serde_json::to_vec(&config)?;
        let config_name = format!("{}.json", digest(&config));
        let manifest = json!([
            {"Config": config_name, "RepoTags": [self.name], "Layers": ["layer.tar"]}
        ]);
        // Under a name of its own first: an archive that is there is whole, and two may make it at once.
        let folder = archive.parent().with_context(|| format!("{archive:?} is in no folder"))?;
        let unfinished = NamedTempFile::new_in(folder);
        let unfinished = unfinished.with_context(|| format!("write in {}", folder.display()))?;
        let mut builder = Builder::new(unfinished);
        let members = [
            (config_name.as_str(), config),
            ("layer.tar", layer),
            ("manifest.json", serde_json::to_vec(&manifest)?),
        ];
        for (name, content) in members {
            let mut header = header(EntryType::Regular, 0o644, content.len());
            builder.append_data(&mut header, name, content.as_slice())?;
        }
        let persisted = builder.into_inner()?.persist(archive).map(drop);
        persisted.with_context(|| format!("make {}", archive.display()))
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut builder = Builder::new(Vec::new());
        let mut folders = BTreeSet::new();
        for (path, entry) in &self.entries {
            let relative = relative(path)?;
            // From the root on: a folder comes before what is in it.
            let parents: Vec<&Path> = relative.ancestors().skip(1).collect();
            for parent in parents.into_iter().rev() {
                // The root is there.
                let is_new = !parent.as_os_str().is_empty() && folders.insert(parent.to_owned());
                let is_named = self.entries.contains_key(&Path::new("/").join(parent));
                if is_new && !is_named {
                    append(&mut builder, EntryType::Directory, parent, 0o755, &[])?;
                }
            }
            if let Some(capabilities) = self.capabilities.get(path) {
                append_capabilities(&mut builder, capabilities)?;
            }
            match entry {
                Entry::Folder(mode) => {
                    append(&mut builder, EntryType::Directory, relative, *mode, &[])?;
                }
                Entry::Copy(source) => append_copy(&mut builder, relative, source)?,
                Entry::Text(text, mode) => {
                    append(&mut builder, EntryType::Regular, relative, *mode, text.as_bytes())?;
                }
                Entry::Link(target) => {
                    let mut header = header(EntryType::Symlink, 0o777, 0);
                    builder.append_link(&mut header, relative, target)?;
                }
            }
        }
        Ok(builder.into_inner()?)
    }
}

fn relative(path: &Path) -> Result<&Path> {
    path.strip_prefix("/").with_context(|| format!("{} is not an absolute path", path.display()))
}

fn append_copy(builder: &mut Builder<Vec<u8>>, path: &Path, source: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = || format!("read {}", source.display());
    let content = fs::read(source).with_context(failed)?;
    let mode = fs::metadata(source).with_context(failed)?.permissions().mode();
    append(builder, EntryType::Regular, path, mode & 0o7777, &content)
}

fn append(
    builder: &mut Builder<Vec<u8>>,
    kind: EntryType,
    path: &Path,
    mode: u32,
    content: &[u8],
) -> Result<()> {
    let mut header = header(kind, mode, content.len());
    builder.append_data(&mut header, path, content)?;
    Ok(())
}

/// An extended header, which is about the entry after it. Its records begin with their own length.
fn append_capabilities(builder: &mut Builder<Vec<u8>>, capabilities: &Capabilities) -> Result<()> {
    let mut rest = b" SCHILY.xattr.security.capability=".to_vec();
    rest.extend(capabilities.to_bytes());
    rest.push(b'\n');
    let length = (rest.len()..).find(|length| length.to_string().len() + rest.len() == *length);
    let mut record = length.context("a record has a length")?.to_string().into_bytes();
    record.extend(rest);
    append(builder, EntryType::XHeader, Path::new("PaxHeaders/capabilities"), 0o644, &record)
}

/// Without times and owners: the same content makes the same image.
fn header(kind: EntryType, mode: u32, length: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(u64::try_from(length).unwrap_or(u64::MAX));
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The command that gives a node the images of an archive, on the node.
pub fn import_command(archive: &Path) -> Vec<String> {
    let fixed =
        ["ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", "images", "import"];
    let archive = archive.display().to_string();
    fixed.iter().map(ToString::to_string).chain([archive]).collect()
}

/// Gives the node that this process is on the images of an archive.
pub async fn import(archive: &Path) -> Result<()> {
    let words = import_command(archive);
    let (program, arguments) = words.split_first().context("no program")?;
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().await?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "import {}: {complaint}", archive.display());
    Ok(())
}

/// What every pod's namespaces are held by; the name is the one that the kubelet's own default has.
pub const PAUSE_IMAGE: &str = "registry.k8s.io/pause:3.10";

#[cfg(test)]
mod tests;
