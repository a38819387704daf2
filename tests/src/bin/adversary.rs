//! Slow peers, floods and crowds from the command line, each of which says as JSON what became of it; and
//! the applications that they are played against.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser};
use heddle_tests::adversary::connection::{Mesh, play};
use heddle_tests::adversary::flood::{Flood, flood};
use heddle_tests::adversary::hold::hold;
use heddle_tests::adversary::patient;
use heddle_tests::adversary::shape::Shape;
use heddle_tests::believer::client_config;

#[derive(Debug, Parser)]
enum Arguments {
    /// Many connections of one slow peer
    Slow(Slow),
    /// Many frames that cost nothing
    Flood(FloodArguments),
    /// Many good connections
    Hold(Hold),
    /// An application that waits for whole requests
    Serve(Port),
    /// An application that has nothing to say
    Mute(Port),
}

#[derive(Debug, Args)]
struct Slow {
    #[arg(long)]
    shape: Shape,
    #[arg(long)]
    address: String,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    seconds: u64,
    #[arg(long, requires_all = ["chain", "key"])]
    server_name: Option<String>,
    #[arg(long)]
    chain: Option<PathBuf>,
    #[arg(long)]
    key: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct FloodArguments {
    #[arg(long)]
    kind: Flood,
    #[arg(long)]
    address: String,
    #[arg(long)]
    millis: u64,
    /// On each connection
    #[arg(long)]
    frames: u32,
    /// Connections
    #[arg(long)]
    per_second: u32,
}

#[derive(Debug, Args)]
struct Hold {
    #[arg(long)]
    address: String,
    #[arg(long)]
    path: String,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    millis: u64,
}

#[derive(Debug, Args)]
struct Port {
    #[arg(long)]
    port: u16,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let said = match Arguments::parse() {
        Arguments::Slow(slow) => {
            let mesh = mesh(&slow)?;
            let many = (slow.connections, Duration::from_secs(slow.seconds));
            serde_json::to_string(&play(slow.shape.script(), mesh, &slow.address, many).await)?
        }
        Arguments::Flood(FloodArguments { kind, address, millis, frames, per_second }) => {
            let duration = Duration::from_millis(millis);
            serde_json::to_string(&flood(kind, &address, duration, (frames, per_second)).await?)?
        }
        Arguments::Hold(Hold { address, path, connections, millis }) => {
            let many = (connections, Duration::from_millis(millis));
            serde_json::to_string(&hold(&address, &path, many).await)?
        }
        Arguments::Serve(Port { port }) => return patient::serve(port).await,
        Arguments::Mute(Port { port }) => return patient::mute(port).await,
    };
    Ok(writeln!(std::io::stdout(), "{said}")?)
}

fn mesh(slow: &Slow) -> Result<Option<Mesh>> {
    let (Some(server_name), Some(chain), Some(key)) = (&slow.server_name, &slow.chain, &slow.key)
    else {
        return Ok(None);
    };
    let config = client_config(Some((chain, key)))?;
    Ok(Some(Mesh { config, server_name: server_name.clone() }))
}
