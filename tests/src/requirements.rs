//! What a test needs of the machine. Where it is not there, a test says so aloud and passes; but in
//! continuous integration it fails, since a test that never runs proves nothing.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::collector::PROGRAM;

/// A program that is not Heddle's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// An HTTP client.
    Curl,
    /// A client of HTTP/2 that takes an answer before its request is all sent.
    Nghttp,
    /// Runs the test applications.
    Python,
    /// A web server.
    Nginx,
    /// A key-value store that speaks when spoken to, and its client.
    Redis,
    /// A database and its client.
    Postgres,
    /// Takes captures.
    Tcpdump,
    /// Takes another user's rights.
    Setpriv,
    /// Scrapes, and its tool that checks rules.
    Prometheus,
    /// Takes what proxies tell, and writes it down.
    Collector,
    /// A browser, and what drives it.
    Chromium,
}

impl Tool {
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Curl => &["curl"],
            Self::Nghttp => &["nghttp"],
            Self::Python => &["python3"],
            Self::Nginx => &["nginx"],
            Self::Redis => &["redis-server", "redis-cli"],
            Self::Postgres => &["postgres", "initdb", "psql"],
            Self::Tcpdump => &["tcpdump"],
            Self::Setpriv => &["setpriv"],
            Self::Prometheus => &["promtool", "prometheus"],
            Self::Collector => &[PROGRAM],
            Self::Chromium => &["chromium", "chromedriver"],
        }
    }

    /// How it is had.
    fn advice(self) -> &'static str {
        match self {
            Self::Curl => "apt-get install curl",
            Self::Nghttp => "apt-get install nghttp2-client",
            Self::Python => "apt-get install python3",
            Self::Nginx => "apt-get install nginx-light",
            Self::Redis => "apt-get install redis-server",
            Self::Postgres => "apt-get install postgresql postgresql-client",
            Self::Tcpdump => "apt-get install tcpdump",
            Self::Setpriv => "apt-get install util-linux",
            Self::Prometheus => "apt-get install prometheus",
            Self::Collector => {
                "tests/collector/build FOLDER, of a folder that is in PATH; needs Go"
            }
            Self::Chromium => "apt-get install chromium chromium-driver",
        }
    }
}

/// Whether to skip the test because something is missing, which is then said; an error where `CI` is set. All such tests
/// need network namespaces.
pub fn skip(tools: &[Tool]) -> Result<bool> {
    let mut missing = missing(tools);
    if !namespaces_can_be_made() {
        missing.push(
            "this user may not make network namespaces; as root: sysctl -w user.max_user_namespaces=15000, \
             sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
                .to_owned(),
        );
    }
    said(&missing)
}

/// The same for a test that needs these programs alone.
pub fn skip_without(tools: &[Tool]) -> Result<bool> {
    said(&missing(tools))
}

fn said(missing: &[String]) -> Result<bool> {
    if missing.is_empty() {
        return Ok(false);
    }
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let text = format!("SKIPPED: {test}: {}", missing.join("; "));
    let is_excused = missing.iter().all(|what| what == Tool::Collector.advice())
        && std::env::var_os("HEDDLE_WITHOUT_COLLECTOR").is_some();
    if !is_excused && std::env::var_os("CI").is_some_and(|value| value == "true") {
        bail!("{text} (with CI=true that is a failure)");
    }
    // Straight to standard error: what a passing test prints is otherwise kept back.
    let _ = writeln!(std::io::stderr(), "\n{text}\n");
    Ok(true)
}

/// Where a program is: in `PATH`, or where Debian keeps what an administrator or a server runs.
pub fn find(program: &str) -> Option<PathBuf> {
    let mut directories: Vec<PathBuf> =
        ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(Into::into).into();
    // The packages' own programs come first: a version manager's stand-ins need its user's home.
    directories.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    directories.extend(versions.map(|version| version.path().join("bin")));
    directories.into_iter().map(|directory| directory.join(program)).find(|path| path.is_file())
}

fn missing(tools: &[Tool]) -> Vec<String> {
    let mut missing = Vec::new();
    for tool in tools {
        if tool.programs().iter().any(|program| find(program).is_none()) {
            missing.push(tool.advice().to_owned());
        }
    }
    missing
}

fn namespaces_can_be_made() -> bool {
    let Some(unshare) = find("unshare") else { return Path::new("/proc/self/ns/user").exists() };
    let made = Command::new(unshare)
        .args(["--user", "--map-root-user", "--net", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // Root needs no user namespace of its own.
    made.is_ok_and(|status| status.success()) || nix::unistd::geteuid().is_root()
}
