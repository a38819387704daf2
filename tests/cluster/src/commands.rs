//! What people ask of `heddle-cluster`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use heddle_cluster::binaries::Source;
use heddle_cluster::cluster::{self, Cluster};
use heddle_cluster::directory;
use heddle_cluster::image::{Entry, Image, Settings, catalog, program};
use heddle_cluster::options::Options;
use heddle_cluster::{kubernetes, requirements};
use tokio::process::Command;

use crate::arguments::{Component, ImageArguments, Start, UserCommand, Which};

/// Runs one command; its exit code.
pub(crate) async fn run(command: UserCommand) -> Result<ExitCode> {
    match command {
        UserCommand::Up(start) => Box::pin(up(start)).await?,
        UserCommand::Down(Which { name }) => cluster::end(&name).await?,
        UserCommand::Run { start, command } => return Box::pin(run_in_one(start, command)).await,
        UserCommand::Status(which) => status(&which).await?,
        UserCommand::Env(Which { name }) => {
            let cluster = Cluster::attach(&name)?;
            let (kubeconfig, programs) = (cluster.kubeconfig(), cluster.programs().to_owned());
            print(&format!("export KUBECONFIG={}", kubeconfig.display()))?;
            print(&format!("export PATH={}:$PATH", programs.display()))?;
        }
        UserCommand::Exec { which, node, command } => {
            let cluster = Cluster::attach(&which.name)?;
            return code(cluster.on_node(&node, &command)?).await;
        }
        UserCommand::Stop(Component { which, node, component }) => {
            Cluster::attach(&which.name)?.stop(&node, &component).await?;
        }
        UserCommand::Start(Component { which, node, component }) => {
            Cluster::attach(&which.name)?.resume(&node, &component).await?;
        }
        UserCommand::Freeze(Component { which, node, component }) => {
            Cluster::attach(&which.name)?.freeze(&node, &component).await?;
        }
        UserCommand::Thaw(Component { which, node, component }) => {
            Cluster::attach(&which.name)?.thaw(&node, &component).await?;
        }
        UserCommand::Reload { which, binaries } => {
            let cluster = Cluster::attach(&which.name)?;
            for archive in images(&binaries)? {
                cluster.load(&archive).await?;
            }
        }
        UserCommand::Load { which, archives } => {
            let cluster = Cluster::attach(&which.name)?;
            for archive in archives {
                cluster.load(&archive).await?;
            }
        }
        UserCommand::Image(arguments) => image(&arguments)?,
        UserCommand::Build => {
            let programs = kubernetes::build(&directory::cache()?, say)?;
            print(&programs.display().to_string())?;
        }
        UserCommand::Programs => {
            let programs = Source::Release.folder(&directory::cache()?, say)?;
            print(&programs.context("a release has a folder")?.display().to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn up(start: Start) -> Result<()> {
    let name = start.which.name.clone();
    let cluster = Box::pin(begin(start)).await?;
    let kubeconfig = cluster.kubeconfig();
    cluster.stay().await?;
    print(&format!("the cluster {name} is up: KUBECONFIG={}", kubeconfig.display()))
}

async fn run_in_one(start: Start, command: Vec<String>) -> Result<ExitCode> {
    let cluster = Box::pin(begin(start)).await?;
    let outcome = in_cluster(&cluster, &command).await;
    cluster.end().await?;
    outcome
}

async fn in_cluster(cluster: &Cluster, command: &[String]) -> Result<ExitCode> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [cluster.programs().to_owned()].into_iter().chain(std::env::split_paths(&path));
    let path = std::env::join_paths(folders)?;
    let (program, arguments) = command.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments).env("KUBECONFIG", cluster.kubeconfig()).env("PATH", path);
    code(command).await
}

async fn begin(start: Start) -> Result<Cluster> {
    requirements::check()?;
    let programs = kubernetes::build(&directory::cache()?, say)?;
    let mut archives = images(&start.binaries)?;
    for archive in start.images {
        let found = archive.canonicalize();
        archives.push(found.with_context(|| format!("find {}", archive.display()))?);
    }
    let options = Options {
        nodes: start.nodes,
        images: archives,
        wait: start.wait.0,
        ..Options::new(&start.which.name, programs)
    };
    let program = std::env::current_exe().context("find this program")?;
    Cluster::start(&program, options).await
}

fn images(binaries: &Source) -> Result<Vec<PathBuf>> {
    let cache = directory::cache()?;
    let binaries = binaries.folder(&cache, say)?;
    let (archives, missing) = catalog::make(binaries.as_deref(), &cache)?;
    for reason in missing {
        say(&format!("no image {reason}"));
    }
    Ok(archives)
}

async fn status(which: &Which) -> Result<()> {
    let cluster = Cluster::attach(&which.name)?;
    for node in cluster.nodes() {
        for component in cluster.components(&node).await? {
            let state = if component.running { "running" } else { "stopped" };
            let name = component.name;
            print(&format!("{node}  {name:<24} {state}  {} restarts", component.restarts))?;
        }
    }
    Ok(())
}

fn image(arguments: &ImageArguments) -> Result<()> {
    let settings = Settings {
        entrypoint: arguments.entrypoint.clone(),
        user: arguments.user.clone(),
        ..Settings::default()
    };
    let mut image = Image::new(&arguments.image, settings);
    let scratch = tempfile::tempdir()?;
    for (path, file) in &arguments.programs {
        program::put(&mut image, path, file.as_ref(), &scratch)?;
    }
    for (path, file) in &arguments.files {
        image.put(path, Entry::Copy(file.into()));
    }
    for (path, capabilities) in &arguments.capabilities {
        image.grant(path, *capabilities);
    }
    image.write(&arguments.output)
}

async fn code(mut command: Command) -> Result<ExitCode> {
    let program = command.as_std().get_program().to_owned();
    let status = command.status().await;
    let status = status.with_context(|| format!("start {}", program.display()))?;
    // Ended by a signal: as shells have it, without its number.
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

fn say(text: &str) {
    eprintln!("heddle-cluster: {text}");
}

fn print(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}
