//! `meshctl dashboard`: the control plane's page in a browser. How requests go there is in `relay.rs`, who may send them in
//! `key.rs`.

pub mod arguments;
pub mod key;
pub mod relay;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use heddle_runtime::signals;
use heddle_runtime::tasks::Tasks;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::dashboard::arguments::DashboardArguments;
use crate::dashboard::key::Keys;
use crate::dashboard::relay::Relay;
use crate::failure::Failure;
use crate::output;
use crate::run::Ending;

/// Serves it until Ctrl-C or SIGTERM.
pub async fn run(options: DashboardArguments) -> Result<Ending, Failure> {
    let terminated = signals::terminated();
    let target = options.target.find().await?;
    relay::check(&target).await?;
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let not_listening = |error: std::io::Error| {
        let remedy = "give another --port, or none: then a free one is taken";
        Failure::new(format!("cannot listen at {wanted}"), remedy).because(&error)
    };
    let listener = TcpListener::bind(wanted).await.map_err(not_listening)?;
    let address = listener.local_addr().map_err(not_listening)?;
    let keys = Keys::new(address.port());
    let (printed, opened) = (keys.address(), keys.address_for_once());
    let tasks = Tasks::new();
    let relay = Relay::new(target, keys, options.as_service_account);
    relay::serve(relay, listener, &tasks);
    output::print(&format!("{printed}\n"))?;
    let is_shown = !options.no_open && open(&opened);
    output::hint(match is_shown {
        true => "a browser was asked to open it; Ctrl-C ends it",
        false => "open it in a browser of this machine; Ctrl-C ends it",
    });
    let ended = terminated.await;
    tasks.shutdown(GRACE).await;
    ended.map_err(|error| {
        Failure::new("cannot wait for signals", "raise the limit of open files (`ulimit -n`)")
            .because(&error)
    })?;
    Ok(Ending::Good)
}

/// Asks a browser to open it, where this user has a screen.
fn open(address: &str) -> bool {
    let has_screen = ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let program = match (cfg!(target_os = "macos"), has_screen) {
        (true, _) => "open",
        (false, true) => "xdg-open",
        (false, false) => return false,
    };
    let mut command = Command::new(program);
    command.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // What becomes of it is the browser's affair.
    command.spawn().is_ok()
}

/// A browser keeps its connections open; there is nothing in them to finish.
const GRACE: Duration = Duration::from_millis(300);
