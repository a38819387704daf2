//! Makes sure that what is measured is what is meant: every request arrives, and between the pods it is encrypted.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_local::protocol::BRIDGE;
use tokio::time::{sleep, timeout};

use super::{MARKER, POLL_PAUSE, World};
use crate::load::plan::{Extent, Shape};
use crate::system::System;
use crate::wire::Seen;

impl World {
    /// Sends a known number of requests in every protocol, and looks at all packets meanwhile.
    pub async fn verify(&self, system: System) -> Result<()> {
        let (begun, end) = (self.file("watch-begun"), self.file("watch-end"));
        let own = self.own.to_string_lossy().into_owned();
        let words = [
            own,
            "watch-wire".to_owned(),
            format!("--marker={MARKER}"),
            format!("--begun={}", begun.display()),
            format!("--end={}", end.display()),
        ];
        let mesh = Arc::clone(&self.mesh);
        let watch = async move { mesh.run_privileged(BRIDGE, &words, Vec::new()).await };
        let load = async {
            while !begun.exists() {
                sleep(POLL_PAUSE).await;
            }
            let loaded = self.all_arrive(system).await;
            std::fs::write(&end, "")?;
            loaded
        };
        let both = async { tokio::join!(watch, load) };
        let (output, loaded) = timeout(VERIFY_WITHIN, both).await.context("no end of it")?;
        for file in [&begun, &end] {
            std::fs::remove_file(file)?;
        }
        loaded.with_context(|| format!("{} loses requests", system.title()))?;
        let output = output?;
        ensure!(output.code == 0, "the wire was not watched: {}", output.stderr_text());
        let seen: Seen = serde_json::from_slice(&output.stdout)?;
        check(system, seen)
    }

    async fn all_arrive(&self, system: System) -> Result<()> {
        for shape in SHAPES {
            let before = self.counts(system).await?;
            let outcome = self.load(system, shape, Extent::Requests(REQUESTS)).await?;
            let after = self.counts(system).await?;
            let arrived = after.exchanges - before.exchanges;
            ensure!(
                outcome.failed == 0 && outcome.completed == REQUESTS && arrived == REQUESTS,
                "{shape:?}: of {REQUESTS} requests {} were answered, {} failed ({}), {arrived} arrived",
                outcome.completed,
                outcome.failed,
                outcome.first_failure.as_deref().unwrap_or("no reason"),
            );
        }
        Ok(())
    }
}

/// Plain text shows where nothing encrypts it, which shows that the watch works, and nowhere else.
fn check(system: System, seen: Seen) -> Result<()> {
    ensure!(seen.packets >= REQUESTS, "only {} packets were seen", seen.packets);
    if system.has_proxies() {
        ensure!(
            seen.with_marker == 0,
            "{}: {} of {} packets are plain text",
            system.title(),
            seen.with_marker,
            seen.packets
        );
    } else {
        ensure!(seen.with_marker >= REQUESTS, "plain text was not seen");
    }
    Ok(())
}

const REQUESTS: u64 = 100;
const SHAPES: [Shape; 5] = [
    Shape::Http1 { connections: 4 },
    Shape::Grpc { connections: 2, streams: 4 },
    Shape::TcpPingPong,
    Shape::TcpConnect { at_once: 4 },
    Shape::Http1Connect { at_once: 4 },
];
const VERIFY_WITHIN: Duration = Duration::from_secs(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_right_without_a_mesh_and_wrong_with_one() {
        let plain = Seen { packets: 1000, with_marker: 500 };
        let encrypted = Seen { packets: 1000, with_marker: 0 };
        for (case, system, seen, expected) in [
            ("nothing encrypts", System::NoMesh, plain, true),
            ("a watch that sees nothing", System::NoMesh, encrypted, false),
            ("a mesh that encrypts", System::Heddle, encrypted, true),
            ("a mesh that does not", System::Heddle, plain, false),
            ("no traffic", System::Heddle, Seen { packets: 3, with_marker: 0 }, false),
        ] {
            assert_eq!(check(system, seen).is_ok(), expected, "case: {case}");
        }
    }
}
