//! Proxies that are started with other arguments than those before them: in the place of the proxy's program is a
//! script, which reads them from a file.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use heddle_local::mesh::Binaries;

/// The same programs in a directory of their own, of which the proxy is a script.
pub(super) fn wrap(real: &Binaries, directory: &Path) -> Result<Binaries> {
    std::fs::create_dir(directory)?;
    for entry in std::fs::read_dir(&real.directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_file() && name != PROXY {
            symlink(entry.path(), directory.join(name))?;
        }
    }
    let (proxy, arguments) = (real.path(PROXY), arguments(directory));
    let (proxy, arguments) = (proxy.display(), arguments.display());
    let script = format!(
        "#!/bin/sh\n\
         if [ \"$1\" = run ] && [ -e {arguments} ]; then exec {proxy} \"$@\" $(cat {arguments}); fi\n\
         exec {proxy} \"$@\"\n"
    );
    let wrapper = directory.join(PROXY);
    std::fs::write(&wrapper, script)?;
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
    Ok(Binaries { directory: directory.to_owned() })
}

/// What proxies get that start from now on.
pub(super) fn give(directory: &Path, more: &[&str]) -> Result<()> {
    std::fs::write(arguments(directory), more.join(" "))
        .context("the world was not planned with later_proxies")
}

fn arguments(directory: &Path) -> PathBuf {
    directory.join("arguments-of-proxies")
}

const PROXY: &str = "heddle-proxy";
