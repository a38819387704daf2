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
use crate::demo::observe::Observer;
use crate::demo::progress::{Phase, STEPS};
use crate::demo::show::{Feed, Seen, Show};
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
    // Nobody waits for anything in it any more, so it need not end in good order, which takes longer:
    // without its owner it is gone at once. A detached one has none.
    match mesh {
        Some(mesh) if options.keep && !kept => {
            mesh.shutdown().await.map_err(|error| local::not_asked(&error))?;
        }
        mesh => drop(mesh),
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
        let (seen, seen_last) = watch::channel(Seen::default());
        let feed = Feed { phase: phases, seen: seen_last };
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
            never = observe(&mesh, &seen) => match never {},
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
async fn observe(mesh: &Mesh, seen: &watch::Sender<Seen>) -> std::convert::Infallible {
    let observer = Observer::new(mesh);
    let mut window = VecDeque::new();
    let mut every = tokio::time::interval(OBSERVE_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let now = observer.observe().await;
        if let Some(earlier) = window.front() {
            let measured = measure::measure(earlier, &now);
            seen.send_modify(|seen| seen.add(measured));
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
    // As it was typed: `./target/release/meshctl` works where that is not on the PATH.
    let meshctl = output::program();
    let hints = match kept {
        Some(Kept { name, directory }) => vec![
            (format!("{meshctl} dashboard --name {name}"), "the map of it, live in a browser"),
            (format!("{meshctl} status --name {name}"), "who has acknowledged what"),
            (format!("{meshctl} local status --name {name}"), "what runs, and where"),
            (
                format!("$EDITOR {}", files::canary_path(directory).display()),
                "change the weights, or break them, and look at the status",
            ),
            (format!("{meshctl} local down --name {name}"), "end it"),
        ],
        None => vec![
            (
                format!("{meshctl} demo --keep"),
                "the same, and it goes on: for you to play with, and for `meshctl dashboard`",
            ),
            (
                format!("{meshctl} demo --output json --duration 20s"),
                "for machines: one summary, exit code 1 on any loss",
            ),
            (
                format!("{meshctl} local up {}", own_directory(Path::new("install/examples/shop"))),
                "your own workloads, from a directory of YAML",
            ),
        ],
    };
    let width = hints.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    let mut text = format!("\n{}\n", colour.bold("try next"));
    for (command, what) in hints {
        text.push_str(&format!("  {command:width$}  {}\n", colour.dim(what)));
    }
    text
}

/// Only where it is: in a checkout.
fn own_directory(shop: &Path) -> String {
    if shop.is_dir() { shop.display().to_string() } else { "DIRECTORY".to_owned() }
}
