//! Counts the instructions that a request costs Heddle's proxies, under valgrind's callgrind: a figure that a busy
//! machine does not change. User mode only; system calls count as nothing.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use heddle_local::mesh::Binaries;

use crate::arguments::InstructionsArguments;
use crate::budget::Counts;
use crate::callgrind::{self, Counted, Purpose};
use crate::load::plan::{Extent, Shape};
use crate::machine::find;
use crate::system::{Side, System};
use crate::world::World;
use crate::world::install::Programs;

/// What is counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Requests of HTTP/1.1, over four connections.
    Http1,
    /// Calls of gRPC, four at a time over one connection.
    Grpc,
    /// Sixty-four bytes there and back.
    Tcp,
    /// A new TCP connection for a few bytes there and back.
    TcpConnect,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::TcpConnect => "tcp_connect",
        }
    }

    /// Its name for people, and what it is.
    fn load(self) -> (&'static str, Shape) {
        match self {
            Self::Http1 => ("HTTP/1.1", Shape::Http1 { connections: 4 }),
            Self::Grpc => ("gRPC", Shape::Grpc { connections: 1, streams: 4 }),
            Self::Tcp => ("TCP, 64 bytes there and back", Shape::TcpPingPong),
            Self::TcpConnect => ("a new TCP connection", Shape::TcpConnect { at_once: 1 }),
        }
    }
}

/// Counts, prints, and holds it against a budget if there is one. What is over it is counted again, and the least counts: what
/// else happens in a proxy meanwhile depends on how long it takes, and falls upon one count or another.
pub async fn count(arguments: &InstructionsArguments) -> Result<()> {
    let valgrind = find("valgrind")?;
    std::fs::create_dir_all(&arguments.folder)?;
    let folder = std::path::absolute(&arguments.folder)?;
    let mut counts = Counts::default();
    let budget = match &arguments.budget {
        Some(file) if !arguments.record => Some(Counts::read(file)?),
        Some(_) | None => None,
    };
    let is_over =
        |counts: &Counts| budget.as_ref().is_some_and(|budget| budget.hold(counts).is_err());
    let is_wanted = |kind: &Kind| arguments.only.is_empty() || arguments.only.contains(kind);
    for kind in Kind::value_variants().iter().filter(|kind| is_wanted(kind)) {
        let mut least = Box::pin(one(*kind, &folder, &valgrind, arguments.requests)).await?;
        for _again in 1..COUNT_LIMIT {
            if !is_over(&least) {
                break;
            }
            least.lower(Box::pin(one(*kind, &folder, &valgrind, arguments.requests)).await?);
        }
        counts.lower(least);
    }
    match (&arguments.budget, budget) {
        (_, Some(budget)) => budget.hold(&counts),
        (Some(file), None) => counts.record(file),
        (None, None) => Ok(()),
    }
}

/// Counts one kind, and prints it. Twice with different numbers of requests: the difference is the requests' own.
async fn one(kind: Kind, folder: &Path, valgrind: &Path, requests: u64) -> Result<Counts> {
    let (name, shape) = kind.load();
    let place = |extent| folder.join(format!("{}-{extent}", kind.name()));
    let few = Box::pin(totals(&place("few"), valgrind, shape, WARM)).await?;
    let many = Box::pin(totals(&place("many"), valgrind, shape, WARM + requests)).await?;
    let mut counts = Counts::default();
    for (side, (few, many)) in Side::BOTH.iter().zip(few.into_iter().zip(many)) {
        let Counted { total, purpose } = many.since(few).each(requests);
        counts.add(format!("{}.{}", kind.name(), side.name()), total);
        let mut stdout = std::io::stdout().lock();
        writeln!(
            stdout,
            "{name}, {}'s proxy: {total} instructions, {purpose} of them for telemetry",
            side.name()
        )?;
    }
    Ok(counts)
}

/// What the proxies of both sides have executed in their whole life, with so many requests in it.
async fn totals(
    folder: &Path,
    valgrind: &Path,
    shape: Shape,
    requests: u64,
) -> Result<Vec<Counted>> {
    let binaries = wrapped(folder, valgrind)?;
    let programs = Programs::find(&[System::Heddle], None);
    let world = Box::pin(World::start_with(&programs, binaries)).await?;
    let outcome = world.load(System::Heddle, shape, Extent::Requests(requests)).await?;
    ensure!(outcome.completed == requests, "lost requests: {:?}", outcome.first_failure);
    let pids = world.proxies(System::Heddle).await?;
    world.end_heddle().await?;
    world.finish().await?;
    let counted = |pid: &u32| {
        let file = folder.join(format!("callgrind.{pid}"));
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("valgrind has not written {}", file.display()))?;
        callgrind::count(&text, TELEMETRY)
            .with_context(|| format!("no total in {}", file.display()))
    };
    pids.iter().map(counted).collect()
}

/// The mesh's programs, of which the proxy runs under valgrind.
fn wrapped(folder: &Path, valgrind: &Path) -> Result<Binaries> {
    let own = Binaries::beside_current_program()?;
    let directory = folder.join("programs");
    std::fs::create_dir_all(&directory)?;
    for name in ["heddle-local", "heddle-control-plane"] {
        let link = directory.join(name);
        if !link.exists() {
            symlink(own.path(name), &link)?;
        }
    }
    let proxy = own.path("heddle-proxy");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = run ] || exec {proxy} \"$@\"\n\
         export GLIBC_TUNABLES={COPY_IN_LOOPS}\n\
         exec {valgrind} --tool=callgrind --callgrind-out-file={folder}/callgrind.%p {proxy} \"$@\"\n",
        proxy = proxy.display(),
        valgrind = valgrind.display(),
        folder = folder.display(),
    );
    let wrapper = directory.join("heddle-proxy");
    std::fs::write(&wrapper, script)?;
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
    Ok(Binaries { directory })
}

/// Callgrind counts each octet that `rep movsb` copies as an instruction, which glibc has for copies from 2 KiB on.
const COPY_IN_LOOPS: &str = "glibc.cpu.x86_rep_movsb_threshold=1073741824";
/// How often one kind is counted at most.
const COUNT_LIMIT: usize = 3;
/// So many requests make connections and warm what can be warmed.
const WARM: u64 = 200;
/// Recording what happens, and telling of it.
const TELEMETRY: Purpose = Purpose {
    paths: &[
        "heddle_telemetry::",
        "heddle_proxy::telemetry::",
        "heddle_proxy::metrics::",
        "heddle_proxy::http::account::",
        "heddle_proxy::http::call_record::",
        "heddle_proxy::http::witness::",
        "::count_request",
        "prometheus_client::",
    ],
    files: &[
        "telemetry/src/",
        "proxy/src/telemetry",
        "proxy/src/metrics",
        "proxy/src/http/account.rs",
        "proxy/src/http/call_record.rs",
        "proxy/src/http/witness.rs",
        "/prometheus-client-",
    ],
};
