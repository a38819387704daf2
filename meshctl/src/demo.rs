//! `meshctl demo`: a shop in a mesh on this machine, and a canary that takes over.

pub mod director;
pub mod files;
pub mod lines;
pub mod measure;
pub mod observe;
pub mod progress;
pub mod screen;
pub mod show;
pub mod summary;
pub mod words;

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use heddle_local::mesh::{Mesh, MeshConfig};
use tokio::sync::watch;

use crate::arguments::DemoArguments;
use crate::demo::director::Director;
use crate::demo::files::Files;
use crate::demo::measure::Measured;
use crate::demo::observe::Observer;
use crate::demo::progress::{Phase, STEPS};
use crate::demo::show::{Feed, Show};
use crate::demo::summary::Summary;
use crate::failure::Failure;
use crate::local;
use crate::output::{self, Colour, Format};
use crate::run::Ending;

/// Less does not give every version of a step a chance to be seen.
const SHORTEST_STEP: Duration = Duration::from_millis(500);
/// How often everybody is asked.
const OBSERVE_EVERY: Duration = Duration::from_millis(500);
/// How many observations back rates are computed from: about two seconds.
const WINDOW: usize = 4;

/// How the demo came to its end.
enum End {
    Finished(Summary),
    Quit,
}

/// Runs the demo and says what it has shown.
pub async fn run(options: DemoArguments, colour: Colour) -> Result<Ending, Failure> {
    let step = options.duration.0 / u32::try_from(STEPS.len()).unwrap_or(1);
    if step < SHORTEST_STEP {
        let shortest = SHORTEST_STEP * u32::try_from(STEPS.len()).unwrap_or(1);
        return Err(Failure::new(
            format!("{} is too short for the demo's {} steps", options.duration, STEPS.len()),
            format!("give --duration {shortest:?} or longer"),
        ));
    }
    let files = Files::write().map_err(|error| {
        let remedy = "make room in the temporary directory, or set TMPDIR to another";
        Failure::new("cannot write the shop's YAML", remedy).because(&error)
    })?;
    let config = config(&options, &files)?;
    let name = config.name.clone();
    let show = Show::for_output(options.output, colour);
    let stage = Stage { files: &files, step, keep: options.keep };
    let (mesh, end) = Box::pin(stage.perform(config, show)).await?;
    let kept = matches!(end, End::Finished(_)) && options.keep;
    if !kept && let Some(mesh) = mesh {
        mesh.shutdown().await.map_err(|error| local::not_asked(&error))?;
    }
    let kept = if kept { Some(Kept { name, directory: files.keep() }) } else { None };
    conclude(end, options.output, kept.as_ref(), colour)
}

/// A mesh that goes on after the demo.
struct Kept {
    name: String,
    directory: PathBuf,
}

fn config(options: &DemoArguments, files: &Files) -> Result<MeshConfig, Failure> {
    // Two demos may run at once; one that is kept has the name that one would guess.
    let name =
        if options.keep { "demo".to_owned() } else { format!("demo-{}", std::process::id()) };
    let config = MeshConfig::new(&name, files.directory());
    let config = config.map_err(|error| local::own_place_unknown(&error))?;
    Ok(MeshConfig { leaf_lifetime: options.leaf_lifetime.0, detach: options.keep, ..config })
}

struct Stage<'a> {
    files: &'a Files,
    step: Duration,
    keep: bool,
}

impl Stage<'_> {
    /// Starts the world and plays in it, while it is shown. The world comes back with the end, unless
    /// it never came up.
    async fn perform(
        &self,
        config: MeshConfig,
        show: Show,
    ) -> Result<(Option<Mesh>, End), Failure> {
        let (phase, phases) = watch::channel(Phase::Starting);
        let (measured, measurements) = watch::channel(None);
        let feed = Feed { phase: phases, measured: measurements };
        let mut quit = Box::pin(show.until_quit(&feed));
        let detached = config.detach;
        let mesh = tokio::select! {
            quit = &mut quit => return quit.map(|()| (None, End::Quit)),
            started = Mesh::start(config) => started.map_err(|error| local::not_started(&error))?,
        };
        let director = Director {
            mesh: &mesh,
            files: self.files,
            phase: &phase,
            step: self.step,
            keep: self.keep,
        };
        let end = tokio::select! {
            quit = &mut quit => quit.map(|()| End::Quit),
            played = Box::pin(director.play()) => played.map(End::Finished),
            never = observe(&mesh, &measured) => match never {},
        };
        drop(quit);
        match end {
            Ok(end) => Ok((Some(mesh), end)),
            Err(failure) => {
                // A detached world outlives this process: after a failure nobody wants it.
                if detached {
                    let _ = mesh.shutdown().await;
                }
                Err(failure)
            }
        }
    }
}

/// Measures for ever.
async fn observe(
    mesh: &Mesh,
    measured: &watch::Sender<Option<Measured>>,
) -> std::convert::Infallible {
    let observer = Observer::new(mesh);
    let mut window = VecDeque::new();
    let mut every = tokio::time::interval(OBSERVE_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let now = observer.observe().await;
        if let Some(earlier) = window.front() {
            measured.send_replace(Some(measure::measure(earlier, &now)));
        }
        window.push_back(now);
        if window.len() > WINDOW {
            window.pop_front();
        }
    }
}

fn conclude(
    end: End,
    format: Format,
    kept: Option<&Kept>,
    colour: Colour,
) -> Result<Ending, Failure> {
    let summary = match (end, format) {
        (End::Finished(summary), _) => summary,
        (End::Quit, Format::Table) => {
            output::print("The demo was ended early; nothing of it is left.\n")?;
            return Ok(Ending::Good);
        }
        (End::Quit, Format::Json) => {
            return Err(Failure::new(
                "the demo was interrupted, so there is no summary",
                "let it run to its end, or give a shorter --duration",
            ));
        }
    };
    match format {
        Format::Json => output::print_json(&summary)?,
        Format::Table => {
            output::print(&summary.to_text(colour))?;
            output::print(&what_next(kept, colour))?;
        }
    }
    let lost = summary.lost();
    for reason in &lost {
        // Whoever does not read standard error has the exit code.
        let _ = writeln!(std::io::stderr().lock(), "lost: {reason}");
    }
    Ok(if lost.is_empty() { Ending::Good } else { Ending::Lost })
}

fn what_next(kept: Option<&Kept>, colour: Colour) -> String {
    let title = colour.bold("try next");
    match kept {
        Some(Kept { name, directory }) => format!(
            "\n{title}  the shop goes on, and its load with it\n\
             \x20 meshctl status --name {name}              who has acknowledged what\n\
             \x20 meshctl local status --name {name}        what runs, and where\n\
             \x20 $EDITOR {}     change the weights, or break it, and look at the status\n\
             \x20 meshctl local down --name {name}          end it\n",
            files::canary_path(directory).display(),
        ),
        None => format!(
            "\n{title}\n\
             \x20 meshctl demo --keep                        the same, and it goes on for you to play with\n\
             \x20 meshctl demo --output json --duration 20s  for machines: one summary, exit code 1 on any loss\n\
             {}",
            own_directory_hint(Path::new("install/examples/shop")),
        ),
    }
}

/// Only where it works: in a checkout.
fn own_directory_hint(shop: &Path) -> String {
    if shop.is_dir() {
        format!(
            "  meshctl local up {}     your own workloads, from a directory of YAML\n",
            shop.display()
        )
    } else {
        "  meshctl local up DIRECTORY                 your own workloads, from a directory of YAML\n"
            .to_owned()
    }
}
