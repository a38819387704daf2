//! A capture of everything on the bridge while something happens, and a search in it for bytes in plain
//! text.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use heddle_local::protocol::BRIDGE;

use crate::applications;
use crate::wait;
use crate::world::World;

/// What went over the bridge: headers and whole packets.
#[derive(Debug)]
pub struct Capture(Vec<u8>);

impl Capture {
    /// Whether these bytes went over the bridge as they are.
    pub fn holds(&self, bytes: &str) -> bool {
        holds(&self.0, bytes.as_bytes())
    }

    /// How much was captured.
    pub fn size_bytes(&self) -> usize {
        self.0.len()
    }
}

/// Captures while `traffic` happens, whose last bytes on the bridge must hold `last` in plain text: what
/// was sent before them is in the capture then, and the capture is shown to see what is to be seen.
pub async fn during<T, F>(world: &World, traffic: F, last: &str) -> Result<(T, Capture)>
where
    F: Future<Output = Result<T>>,
{
    let file = world.path("bridge.pcap");
    let path = file.to_string_lossy().into_owned();
    let argv = command(&path);
    let captured = world.mesh()?.run_privileged(BRIDGE, &argv, Vec::new());
    let observed = async {
        wait::until("packets are captured", Duration::from_secs(10), async || {
            ensure!(std::fs::metadata(&file)?.len() >= FILE_HEADER_BYTES, "an empty file");
            Ok(())
        })
        .await?;
        let outcome = traffic.await?;
        let capture = complete(&file, last).await?;
        Ok((outcome, capture))
    };
    tokio::select! {
        ended = captured => bail!("the capture ended by itself: {}", ended?.stderr_text()),
        observed = observed => observed,
    }
}

async fn complete(file: &PathBuf, last: &str) -> Result<Capture> {
    wait::until("the last bytes are captured in plain text", Duration::from_secs(10), async || {
        let bytes = std::fs::read(file)?;
        ensure!(holds(&bytes, last.as_bytes()), "{last:?} is not in {} bytes", bytes.len());
        Ok(Capture(bytes))
    })
    .await
}

/// Takes whole packets of every device of the bridge's namespace, and writes them as they come.
fn command(file: &str) -> Vec<String> {
    if !nix::unistd::geteuid().is_root() {
        return applications::capture(file);
    }
    let words = [
        "tcpdump",
        "-i",
        "any",
        "-s",
        "0",
        "-B",
        "32768",
        "-U",
        "--immediate-mode",
        "-Z",
        "root",
        "-w",
        file,
    ];
    words.map(ToOwned::to_owned).to_vec()
}

fn holds(bytes: &[u8], searched: &[u8]) -> bool {
    bytes.windows(searched.len()).any(|window| window == searched)
}

/// The header of a pcap file, which is written once packets are taken.
const FILE_HEADER_BYTES: u64 = 24;
