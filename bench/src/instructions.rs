//! Counts the instructions that a request costs Heddle's proxies, under valgrind's callgrind: a figure that a busy
//! machine does not change. User mode only; system calls count as nothing.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use heddle_local::mesh::Binaries;

use crate::arguments::InstructionsArguments;
use crate::callgrind::{self, Counted, Purpose};
use crate::load::plan::{Extent, Shape};
use crate::machine::find;
use crate::system::{Side, System};
use crate::world::World;
use crate::world::install::Programs;

/// Counts and prints. Twice with different numbers of requests: the difference is the requests' own.
pub async fn count(arguments: &InstructionsArguments) -> Result<()> {
    let valgrind = find("valgrind")?;
    std::fs::create_dir_all(&arguments.folder)?;
    let folder = std::path::absolute(&arguments.folder)?;
    let binaries = wrapped(&folder, &valgrind)?;
    for (name, shape) in SHAPES {
        let few = Box::pin(totals(&binaries, &folder, *shape, WARM)).await?;
        let many = Box::pin(totals(&binaries, &folder, *shape, WARM + arguments.requests)).await?;
        for (side, (few, many)) in Side::BOTH.iter().zip(few.into_iter().zip(many)) {
            let Counted { total, purpose } = many.since(few).each(arguments.requests);
            let mut stdout = std::io::stdout().lock();
            writeln!(
                stdout,
                "{name}, {}'s proxy: {total} instructions, {purpose} of them for telemetry",
                side.name()
            )?;
        }
    }
    Ok(())
}

/// What the proxies of both sides have executed in their whole life, with so many requests in it.
async fn totals(
    binaries: &Binaries,
    folder: &Path,
    shape: Shape,
    requests: u64,
) -> Result<Vec<Counted>> {
    let programs = Programs::find(&[System::Heddle], None);
    let world = Box::pin(World::start_with(&programs, binaries.clone())).await?;
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

/// So many requests make connections and warm what can be warmed.
const WARM: u64 = 200;
const SHAPES: &[(&str, Shape)] = &[
    ("HTTP/1.1", Shape::Http1 { connections: 4 }),
    ("gRPC", Shape::Grpc { connections: 1, streams: 4 }),
    ("TCP, 64 bytes there and back", Shape::TcpPingPong),
];
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
