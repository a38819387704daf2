//! `meshctl local`: a mesh on this machine, from a directory of Kubernetes YAML.

pub mod render;

use std::io::Write as _;
use std::time::Duration;

use heddle_local::mesh::{Mesh, MeshConfig, RequestError, StartError};
use heddle_runtime::signals;

use crate::arguments::{DownArguments, LocalStatusArguments, UpArguments};
use crate::failure::Failure;
use crate::output::{self, Colour, Output, Page};
use crate::repeat::{self, Shown};
use crate::run::Ending;
use crate::worlds;

/// How often a mesh in the foreground is looked after.
const LOOK_AFTER: Duration = Duration::from_millis(500);

/// Starts a mesh; stays with it until Ctrl-C, unless detached.
pub async fn up(options: UpArguments) -> Result<Ending, Failure> {
    let directory = options.directory;
    let name = match options.name {
        Some(name) => name,
        // As written first, so that a symbolic link gives its own name.
        None => worlds::name_of(&directory)
            .or_else(|| worlds::name_of(&directory.canonicalize().ok()?))
            .unwrap_or_else(|| "local".to_owned()),
    };
    worlds::check_name(&name)?;
    let config = MeshConfig::new(&name, &directory).map_err(|error| own_place_unknown(&error))?;
    let config =
        MeshConfig { leaf_lifetime: options.leaf_lifetime.0, detach: options.detach, ..config };
    // One for the whole command: a signal that came between two would end nothing.
    let mut terminated = std::pin::pin!(signals::terminated());
    let mesh = tokio::select! {
        // Dropping what was begun ends it.
        started = Mesh::start(config) => started.map_err(|error| not_started(&error))?,
        _ = &mut terminated => return Ok(Ending::Good),
    };
    let status = mesh.status().await.map_err(|error| not_asked(&error))?;
    let meshctl = output::program();
    let end = if options.detach {
        format!("{meshctl} local down --name {name}")
    } else {
        "Ctrl-C".to_owned()
    };
    let ready = status.workloads.len();
    output::print(&format!(
        "{name} is up: {ready} workloads are ready, from {}\n\
         \x20 look    {meshctl} local status --name {name}\n\
         \x20         {meshctl} status --name {name}\n\
         \x20 change  the files in {}; what runs follows\n\
         \x20 end     {end}\n",
        status.directory.display(),
        status.directory.display(),
    ))?;
    // Nobody may be reading; the exit code still tells.
    let _ = std::io::stderr().lock().write_all(render::warnings(&status, &meshctl).as_bytes());
    if options.detach {
        return Ok(if render::leaves_out(&status) { Ending::CheckFailed } else { Ending::Good });
    }
    tokio::select! {
        ended = &mut terminated => ended.map_err(|error| signals_unknown(&error))?,
        lost = until_lost(&mesh) => return Err(lost),
    }
    mesh.shutdown().await.map_err(|error| not_asked(&error))?;
    Ok(Ending::Good)
}

/// Ends when the mesh does not answer any more: somebody else has ended it, or it was killed.
async fn until_lost(mesh: &Mesh) -> Failure {
    loop {
        tokio::time::sleep(LOOK_AFTER).await;
        if let Err(error) = mesh.status().await {
            return Failure::new(
                "the local mesh has ended: somebody ran `meshctl local down`, or killed it",
                "start it again; if it was neither, report this as a bug",
            )
            .because(&error);
        }
    }
}

/// Prints what runs, once or again and again; a check that fails when a workload is not ready.
pub async fn status(options: LocalStatusArguments, colour: Colour) -> Result<Ending, Failure> {
    let mesh = attach(options.name.as_deref()).await?;
    repeat::show(options.watch, async || shown(&options, &mesh, colour).await).await
}

async fn shown(
    options: &LocalStatusArguments,
    mesh: &Mesh,
    colour: Colour,
) -> Result<Shown, Failure> {
    let status = mesh.status().await.map_err(|error| not_asked(&error))?;
    let text = match options.output {
        Output::Json => output::json(&status, options.watch.watch)?,
        Output::Yaml => output::yaml(&status, options.watch.watch)?,
        Output::Name => {
            let names = status.workloads.iter();
            names.map(|workload| format!("{}/{}\n", workload.namespace, workload.name)).collect()
        }
        Output::Table | Output::Wide => {
            let (wide, no_headers) = (options.output == Output::Wide, options.no_headers);
            render::text(&status, Page { wide, no_headers, colour })
        }
    };
    let hint = status.workloads.is_empty().then(|| {
        format!("nothing runs in it: no Pod in any file below {}", status.directory.display())
    });
    let good = status.workloads.iter().all(render::is_as_wanted)
        && status.control_plane.running
        && status.problems.is_empty();
    Ok(Shown { text, hint, ending: if good { Ending::Good } else { Ending::CheckFailed } })
}

/// Ends a mesh and waits until nothing is left of it.
pub async fn down(options: DownArguments) -> Result<Ending, Failure> {
    let mesh = attach(options.name.as_deref()).await?;
    let name = mesh.status().await.map_err(|error| not_asked(&error))?.name;
    mesh.shutdown().await.map_err(|error| not_asked(&error))?;
    output::print(&format!("{name} is down\n"))?;
    Ok(Ending::Good)
}

async fn attach(name: Option<&str>) -> Result<Mesh, Failure> {
    let directory = worlds::find(name)?;
    Mesh::attach(directory).await.map_err(|error| not_asked(&error))
}

/// A mesh that did not start.
pub fn not_started(error: &StartError) -> Failure {
    let remedy = match error {
        StartError::Directory { .. } => {
            "give a directory of Kubernetes YAML, such as install/examples/shop".to_owned()
        }
        StartError::MissingBinaries { build, .. } => {
            format!("{build}  (and run meshctl from where they are built)")
        }
        StartError::StateDirectory { .. } | StartError::NotAWorld(_) => {
            "set XDG_RUNTIME_DIR to a directory of your own, or give another --name".to_owned()
        }
        StartError::PathTooLong(_) => "set XDG_RUNTIME_DIR to a shorter directory".to_owned(),
        StartError::AlreadyRunning(_) => {
            "end it with `meshctl local down`, or give `meshctl local up` another --name".to_owned()
        }
        StartError::Forbidden { .. } => "one of the above, or run it as root".to_owned(),
        StartError::Spawn { .. } => "check that the file can be executed".to_owned(),
        StartError::World { .. } | StartError::Request(_) => {
            "check the message above; if it makes no sense, report it as a bug".to_owned()
        }
        StartError::NotReady(_) => {
            "mend what its log above says, or look closer with `heddle-local`'s own log in the state \
             directory"
                .to_owned()
        }
    };
    Failure::new("cannot start the local mesh", remedy).because(error)
}

/// A mesh that does not answer.
pub fn not_asked(error: &RequestError) -> Failure {
    Failure::new(
        "cannot ask the local mesh",
        "see whether it still runs: `meshctl local status`; its log is logs/world.log in its state \
         directory",
    )
    .because(error)
}

/// No signals.
pub fn signals_unknown(error: &std::io::Error) -> Failure {
    Failure::new("cannot wait for signals", "raise the limit of open files (`ulimit -n`)")
        .because(error)
}

/// No way to tell where this program is.
pub fn own_place_unknown(error: &std::io::Error) -> Failure {
    Failure::new(
        "cannot tell where meshctl itself is, and so where the mesh's programs are",
        "mount /proc, and start meshctl from a file that still exists",
    )
    .because(error)
}
