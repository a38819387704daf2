//! Runs the command that the arguments name.

use crate::arguments::{Arguments, Command, LoadArguments, LocalCommand, ShopCommand};
use crate::failure::Failure;
use crate::output::{self, Colour, Format};
use crate::shop::{api, frontend, load, store};
use crate::{
    check, completion, dashboard, demo, edges, identity, inject, install, local, proxy, routes,
    split, stat, status, tap, top, trace, why,
};

/// How a command that could be carried out ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Exit code 0.
    Good,
    /// Exit code 1: requests were lost, or went in plain text. Already told.
    Lost,
    /// Exit code 3: what was looked at is not as it should be. Already told.
    CheckFailed,
    /// Exit code 4: the call that was asked about would not be served. Already told.
    NotServed,
}

/// Runs it to its end.
pub async fn run(arguments: Arguments) -> Result<Ending, Failure> {
    let colour = Colour::of_standard_output(arguments.no_color.as_deref());
    match arguments.command {
        Command::Demo(options) => Box::pin(demo::run(options, colour)).await,
        Command::Local(LocalCommand::Up(options)) => Box::pin(local::up(options)).await,
        Command::Local(LocalCommand::Status(options)) => {
            Box::pin(local::status(options, colour)).await
        }
        Command::Local(LocalCommand::Down(options)) => Box::pin(local::down(options)).await,
        Command::Install(options) => Box::pin(install::install(options, colour)).await,
        Command::Upgrade(options) => Box::pin(install::upgrade(options, colour)).await,
        Command::Uninstall(options) => Box::pin(install::uninstall::run(options, colour)).await,
        Command::Check(options) => Box::pin(check::run(options, colour)).await,
        Command::Inject(options) => Box::pin(inject::run(options)).await,
        Command::Uninject(options) => inject::undo(&options),
        Command::Status(options) => Box::pin(status::run(options, colour)).await,
        Command::Stat(options) => Box::pin(stat::run(options, colour)).await,
        Command::Top(options) => Box::pin(top::run(options, colour)).await,
        Command::Edges(options) => Box::pin(edges::run(options, colour)).await,
        Command::Tap(options) => Box::pin(tap::run(options, colour)).await,
        Command::Trace(options) => Box::pin(trace::run(options, colour)).await,
        Command::Dashboard(options) => Box::pin(dashboard::run(options)).await,
        Command::Identity(options) => Box::pin(identity::run(options, colour)).await,
        Command::Proxy(command) => Box::pin(proxy::run(command, colour)).await,
        Command::Why(options) => Box::pin(why::run(options, colour)).await,
        Command::Routes(options) => Box::pin(routes::run(options, colour)).await,
        Command::Split(options) => Box::pin(split::run(options, colour)).await,
        Command::Completion { shell } => completion::print(shell),
        Command::Shop(command) => Box::pin(shop(command)).await,
    }
}

async fn shop(command: ShopCommand) -> Result<Ending, Failure> {
    match command {
        ShopCommand::Frontend { listen, api } => frontend::run(listen, api).await?,
        ShopCommand::Api { listen, version, store } => api::run(listen, version, store).await?,
        ShopCommand::Store { listen } => store::run(listen).await?,
        ShopCommand::Load(options) => return Box::pin(run_load(options)).await,
    }
    Ok(Ending::Good)
}

async fn run_load(options: LoadArguments) -> Result<Ending, Failure> {
    let format = options.output;
    let stats = options.stats_listen;
    let report = load::run(options.into_plan(), stats).await?;
    match format {
        Format::Json => output::print_json_line(&report)?,
        Format::Table => output::print(&report.to_text())?,
    }
    Ok(if report.failed == 0 { Ending::Good } else { Ending::Lost })
}
