//! Remembers across restarts the newest text of every file that was good as a whole. Without it, a
//! restart while a file is broken would take the objects of the file for gone: traffic that a split
//! led elsewhere would go to its root, and calls to a pod would leave in plain text.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use heddle_model::identity::TrustDomain;
use tracing::warn;

use crate::source::listing::Listing;
use crate::source::{Content, Object};
use crate::translate::{
    connection_route, endpoint_slice, grpc_route, http_route, http_route_group, pod, service,
    traffic_policy, traffic_split,
};

/// Copies of good texts, in a directory of their own, each at the relative path of its file.
#[derive(Debug)]
pub struct LastGood {
    directory: PathBuf,
    trust_domain: TrustDomain,
    /// Hashes of what the copies hold.
    kept: BTreeMap<String, u64>,
}

impl LastGood {
    /// With copies in `directory`, which is made when there is one.
    pub fn new(directory: PathBuf, trust_domain: TrustDomain) -> Self {
        Self { directory, trust_domain, kept: BTreeMap::new() }
    }

    /// The files that there are copies of.
    pub fn files(&self) -> Vec<String> {
        match Listing::of(&self.directory) {
            Ok(listing) => listing.files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                warn!(%error, "the last good configuration cannot be listed; going on without it");
                Vec::new()
            }
        }
    }

    /// The copy of a file's text.
    pub fn read(&mut self, file: &str) -> Option<String> {
        match fs::read_to_string(self.directory.join(file)) {
            Ok(text) => {
                self.kept.insert(file.to_owned(), hash(&text));
                Some(text)
            }
            Err(error) => {
                warn!(%error, file, "the last good configuration cannot be read; going on without it");
                None
            }
        }
    }

    /// Whether every one of these objects means something to the mesh.
    pub fn all_good(&self, objects: &[Object]) -> bool {
        objects.iter().all(|object| means_something(object, &self.trust_domain))
    }

    /// Keeps a copy of a file's text.
    pub fn keep(&mut self, file: &str, text: &str) {
        let hash = hash(text);
        if self.kept.get(file) == Some(&hash) {
            return;
        }
        match write(&self.directory.join(file), text) {
            Ok(()) => {
                self.kept.insert(file.to_owned(), hash);
            }
            Err(error) => warn!(%error, file, "{NOT_KEPT}"),
        }
    }

    /// Lets a copy follow its file.
    pub fn rename(&mut self, from: &str, to: &str) {
        let Some(hash) = self.kept.remove(from) else { return };
        let target = self.directory.join(to);
        let moved =
            make_parent(&target).and_then(|()| fs::rename(self.directory.join(from), target));
        match moved {
            Ok(()) => {
                self.kept.insert(to.to_owned(), hash);
            }
            Err(error) => warn!(%error, file = to, "{NOT_KEPT}"),
        }
        self.remove_empty(from);
    }

    /// Removes the copy of a file that is gone, if there is one.
    pub fn remove(&mut self, file: &str) {
        self.kept.remove(file);
        match fs::remove_file(self.directory.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(%error, file, "the last good configuration of a file that is gone stays");
            }
            Ok(()) | Err(_) => self.remove_empty(file),
        }
    }

    /// Removes directories that a copy leaves empty: a file may be given the name of one.
    fn remove_empty(&self, file: &str) {
        for parent in Path::new(file).ancestors().skip(1) {
            // Fails for the first that holds something else, and so for all above it.
            if parent.as_os_str().is_empty() || fs::remove_dir(self.directory.join(parent)).is_err()
            {
                return;
            }
        }
    }
}

fn means_something(object: &Object, trust_domain: &TrustDomain) -> bool {
    let reference = &object.reference;
    match &object.content {
        Content::Pod(pod) => pod::translate(pod, reference, trust_domain).is_ok(),
        Content::Service(service) => service::translate(service, reference).is_ok(),
        Content::EndpointSlice(slice) => endpoint_slice::translate(slice, reference).is_ok(),
        Content::TrafficSplit(split) => traffic_split::translate(split, reference).is_ok(),
        Content::HttpRoute(route) => http_route::translate(route, reference).is_ok(),
        Content::GrpcRoute(route) => grpc_route::translate(route, reference).is_ok(),
        Content::TcpRoute(route) => connection_route::of_tcp(route, reference).is_ok(),
        Content::TlsRoute(route) => connection_route::of_tls(route, reference).is_ok(),
        Content::HttpRouteGroup(group) => http_route_group::translate(group).is_ok(),
        Content::TrafficPolicy(policy) => traffic_policy::translate(policy, reference).is_ok(),
        Content::ReferenceGrant(_) | Content::Node(_) | Content::Ignored { .. } => true,
    }
}

/// Puts the text in place whole. Not synced to disk: what a power failure takes is missed only if the
/// file is broken as well, and generated files change too often to wait for the disk each time.
fn write(path: &Path, text: &str) -> io::Result<()> {
    make_parent(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Hidden files are not taken for copies.
    let partial = path.with_file_name(format!(".{name}.partial"));
    // Manifests may hold secrets: like the keys, the copies are their owner's alone.
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&partial, path)
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |parent| DirBuilder::new().recursive(true).mode(0o700).create(parent))
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

const NOT_KEPT: &str = "the last good configuration cannot be kept; a restart would forget it";
