//! The files that names are looked up in. What is in `hosts` is decided in `manifests::hosts`.

use std::io;
use std::path::Path;

use crate::state_directory::StateDirectory;

/// There is no DNS server here: a name that is not in `/etc/hosts` is unknown at once, since nobody listens at the
/// address below.
pub(super) fn write_name_service(state: &StateDirectory) -> io::Result<()> {
    std::fs::write(
        state.etc("resolv.conf"),
        "# There is no DNS server in a local mesh: see /etc/hosts.\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
    )?;
    let machine = std::fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    let others = machine.lines().filter(|line| !line.trim_start().starts_with("hosts:"));
    let text: String = others.chain(["hosts: files dns"]).flat_map(|line| [line, "\n"]).collect();
    std::fs::write(state.etc("nsswitch.conf"), text)
}

/// Rewrites a file that is mounted elsewhere, and so must stay the same file. One write, and only then the new end, so
/// that a reader never finds it empty.
pub(super) fn rewrite(file: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;

    if std::fs::read(file).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(());
    }
    let opened = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(file)?;
    opened.write_all_at(text.as_bytes(), 0)?;
    opened.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))
}
