//! Looks for text in the packets of a network namespace: what is encrypted does not show.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::Instant;

use crate::arguments::WatchArguments;

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// All packets.
    pub packets: u64,
    /// Those with the text in them.
    pub with_marker: u64,
}

/// Looks until it is told to end, and prints what it saw.
pub fn watch(arguments: &WatchArguments) -> Result<()> {
    let mut socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(ALL_PROTOCOLS)))
        .context("look at packets")?;
    socket.set_read_timeout(Some(PAUSE))?;
    // A system that is looked at sends a few thousand packets; none is to be lost.
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    std::fs::write(&arguments.begun, "")?;
    let mut seen = Seen { packets: 0, with_marker: 0 };
    let mut packet = vec![0; PACKET_LIMIT_BYTES];
    let deadline = Instant::now() + LONGEST;
    let mut ending = false;
    while Instant::now() < deadline {
        match socket.read(&mut packet) {
            Ok(length) => {
                seen.packets += 1;
                let content = packet.get(..length).unwrap_or_default();
                seen.with_marker += u64::from(contains(content, arguments.marker.as_bytes()));
            }
            // Nothing is left of what came before the end.
            Err(error) if error.kind() == ErrorKind::WouldBlock && ending => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                ending = arguments.end.exists();
            }
            Err(error) => return Err(error).context("read a packet"),
        }
    }
    writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(&seen)?)?;
    Ok(())
}

fn contains(content: &[u8], marker: &[u8]) -> bool {
    !marker.is_empty() && content.windows(marker.len()).any(|window| window == marker)
}

/// `ETH_P_ALL` in network byte order, as packet(7) wants it.
const ALL_PROTOCOLS: i32 = 0x0300;
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(60);
/// With segmentation offload a packet is as long as IP allows.
const PACKET_LIMIT_BYTES: usize = 128 * 1024;
const RECEIVE_BUFFER_BYTES: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_wherever_it_is() {
        for (case, content, expected) in [
            ("nothing", "", false),
            ("at the beginning", "loom and more", true),
            ("at the end", "the loom", true),
            ("another", "the lo om", false),
        ] {
            assert_eq!(contains(content.as_bytes(), b"loom"), expected, "case: {case}");
        }
        assert!(!contains(b"anything", b""));
    }
}
