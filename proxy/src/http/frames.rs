//! Follows the frames of an HTTP/2 connection by their nine-byte heads, and says when the client sends
//! more of a kind than it has reason to. Reads no socket and no clock: see meter.rs.
//!
//! What h2 bounds itself is not bounded again, but recognised, so that its end has a name: frames
//! that continue a block of headers, and DATA frames without data.

pub mod head;

use std::time::Duration;

use crate::http::frames::head::{HEAD_BYTES, Head, flag, kind};

/// What there was too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Excess {
    /// PING, answers to ours among them.
    Ping,
    /// SETTINGS, answers to ours not among them.
    Settings,
    /// PRIORITY and PRIORITY_UPDATE.
    Priority,
    /// WINDOW_UPDATE.
    WindowUpdate,
    /// RST_STREAM (CVE-2023-44487).
    Reset,
    /// DATA without data that ends nothing (CVE-2019-9518).
    EmptyData,
    /// CONTINUATION (CVE-2024-27316).
    Continuation,
    /// Frames that mean nothing to a server.
    Unknown,
}

impl Excess {
    /// The reason as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "http2_ping",
            Self::Settings => "http2_settings",
            Self::Priority => "http2_priority",
            Self::WindowUpdate => "http2_window_update",
            Self::Reset => "http2_reset",
            Self::EmptyData => "http2_empty_data",
            Self::Continuation => "http2_continuation",
            Self::Unknown => "http2_unknown_frame",
        }
    }

    /// Whether h2 ends the connection itself, with a GOAWAY that says why.
    pub fn is_bounded_by_h2(self) -> bool {
        match self {
            Self::EmptyData | Self::Continuation => true,
            Self::Ping
            | Self::Settings
            | Self::Priority
            | Self::WindowUpdate
            | Self::Reset
            | Self::Unknown => false,
        }
    }
}

/// How much a client may send of what costs it nothing and moves nothing. Each kind has an account:
/// a frame takes one from it, and there is no frame without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    ping: Budget,
    settings: Budget,
    priority: Budget,
    window_update: Budget,
    reset: Budget,
    unknown: Budget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Budget {
    /// What an account holds to begin with.
    begin: u32,
    /// What it may hold.
    limit: u32,
    /// What it gets each second, up to `begin`.
    per_second: u32,
    /// What it gets for each stream that the client opens.
    per_stream: u32,
    /// What it gets for each DATA frame that it is sent.
    per_data: u32,
}

impl Budgets {
    /// Of callers that nobody authenticated.
    pub const PLAINTEXT: Self = Self {
        ping: PING,
        settings: CONTROL,
        priority: PRIORITY,
        window_update: WINDOW_UPDATE,
        reset: RESET,
        unknown: CONTROL,
    };
    /// Of a proxy of the mesh, which passes on what all clients of one workload cancel, and of the
    /// own workload.
    pub const TRUSTED: Self = Self { reset: RESET_TRUSTED, ..Self::PLAINTEXT };
}

/// Finds the heads in a stream of bytes, however they are cut.
#[derive(Clone, Debug)]
struct Walker {
    /// How much of a payload, or of the preface, is still to come.
    skip: u32,
    head: [u8; HEAD_BYTES],
    filled: usize,
}

impl Walker {
    fn new(preface_bytes: u32) -> Self {
        Self { skip: preface_bytes, head: [0; HEAD_BYTES], filled: 0 }
    }

    fn walk(&mut self, mut bytes: &[u8], mut found: impl FnMut(Head)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                bytes = bytes.get(skipped..).unwrap_or_default();
                self.skip = self.skip.saturating_sub(u32::try_from(skipped).unwrap_or(u32::MAX));
                continue;
            }
            let missing = self.head.get_mut(self.filled..).unwrap_or_default();
            let taken = missing.len().min(bytes.len());
            for (into, byte) in missing.iter_mut().zip(bytes) {
                *into = *byte;
            }
            bytes = bytes.get(taken..).unwrap_or_default();
            self.filled += taken;
            if self.filled == HEAD_BYTES {
                let head = Head::parse(self.head);
                (self.filled, self.skip) = (0, head.length);
                found(head);
            }
        }
    }
}

/// What is left of each budget on one connection.
#[derive(Clone, Debug)]
pub struct FrameCounter {
    received: Walker,
    sent: Walker,
    accounts: Accounts,
}

#[derive(Clone, Debug)]
struct Accounts {
    ping: Account,
    settings: Account,
    priority: Account,
    window_update: Account,
    reset: Account,
    unknown: Account,
    empty_data: u32,
    /// Of the block of headers that is being received.
    continuations: u32,
    last_stream: u32,
    has_settings: bool,
    excess: Option<Excess>,
}

impl FrameCounter {
    /// For a connection whose first byte is that of the client's preface.
    pub fn new(budgets: Budgets) -> Self {
        let Budgets { ping, settings, priority, window_update, reset, unknown } = budgets;
        Self {
            received: Walker::new(PREFACE_BYTES),
            sent: Walker::new(0),
            accounts: Accounts {
                ping: Account::new(ping),
                settings: Account::new(settings),
                priority: Account::new(priority),
                window_update: Account::new(window_update),
                reset: Account::new(reset),
                unknown: Account::new(unknown),
                empty_data: 0,
                continuations: 0,
                last_stream: 0,
                has_settings: false,
                excess: None,
            },
        }
    }

    /// Takes note of what came from the client, `age` after the connection began; ages never fall.
    pub fn receive(&mut self, bytes: &[u8], age: Duration) {
        let accounts = &mut self.accounts;
        self.received.walk(bytes, |head| accounts.receive(head, age));
    }

    /// Takes note of what was sent to the client.
    pub fn send(&mut self, bytes: &[u8]) {
        let accounts = &mut self.accounts;
        self.sent.walk(bytes, |head| {
            if head.kind == kind::DATA {
                accounts.ping.earn(|budget| budget.per_data);
                accounts.window_update.earn(|budget| budget.per_data);
            }
        });
    }

    /// What there was too much of first, if anything.
    pub fn excess(&self) -> Option<Excess> {
        self.accounts.excess
    }

    /// Whether the client has sent its preface, of which SETTINGS are the end.
    pub fn is_begun(&self) -> bool {
        self.accounts.has_settings
    }
}

impl Accounts {
    fn receive(&mut self, head: Head, age: Duration) {
        let excess = match head.kind {
            kind::DATA => self.data(head),
            kind::HEADERS => {
                self.headers(head);
                None
            }
            kind::PRIORITY | kind::PRIORITY_UPDATE => {
                over(self.priority.take(age), Excess::Priority)
            }
            kind::RST_STREAM => over(self.reset.take(age), Excess::Reset),
            kind::SETTINGS if head.has(flag::ACK) => None,
            kind::SETTINGS => {
                self.has_settings = true;
                over(self.settings.take(age), Excess::Settings)
            }
            kind::PING => over(self.ping.take(age), Excess::Ping),
            kind::WINDOW_UPDATE => over(self.window_update.take(age), Excess::WindowUpdate),
            kind::CONTINUATION => {
                self.continuations = self.continuations.saturating_add(1);
                let is_last = head.has(flag::END_HEADERS);
                over(is_last || self.continuations <= CONTINUATION_LIMIT, Excess::Continuation)
            }
            _ => over(self.unknown.take(age), Excess::Unknown),
        };
        self.excess = self.excess.or(excess);
    }

    fn data(&mut self, head: Head) -> Option<Excess> {
        // One that ends its stream is needed, and comes once.
        if head.length == 0 && !head.has(flag::END_STREAM) {
            self.empty_data = self.empty_data.saturating_add(1);
        }
        over(self.empty_data <= EMPTY_DATA_LIMIT, Excess::EmptyData)
    }

    fn headers(&mut self, head: Head) {
        self.continuations = 0;
        // A lower one: trailers.
        if head.stream > self.last_stream {
            self.last_stream = head.stream;
            let Self { ping, priority, window_update, reset, .. } = self;
            for account in [ping, priority, window_update, reset] {
                account.earn(|budget| budget.per_stream);
            }
        }
    }
}

fn over(is_within: bool, excess: Excess) -> Option<Excess> {
    (!is_within).then_some(excess)
}

#[derive(Clone, Debug)]
struct Account {
    budget: Budget,
    left: u32,
    /// Up to when it has got what there is for time.
    paid_until_seconds: u64,
}

impl Account {
    fn new(budget: Budget) -> Self {
        Self { budget, left: budget.begin, paid_until_seconds: 0 }
    }

    /// False if there is nothing left to take.
    fn take(&mut self, age: Duration) -> bool {
        let seconds = age.as_secs().saturating_sub(self.paid_until_seconds);
        if seconds > 0 {
            self.paid_until_seconds = age.as_secs();
            let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
            let filled = self.left.saturating_add(seconds.saturating_mul(self.budget.per_second));
            // What was earned is not lost to time.
            self.left = self.left.max(filled.min(self.budget.begin));
        }
        let is_within = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_within
    }

    fn earn(&mut self, amount: impl Fn(&Budget) -> u32) {
        let amount = amount(&self.budget);
        self.left = self.left.saturating_add(amount).min(self.budget.limit);
    }
}

/// Keep-alive takes one every few seconds; what measures bandwidth takes one for each round trip with
/// data, which is at most one for each DATA frame. 1000 is how many answers Envoy has waiting
/// (`max_outbound_control_frames`), and 33 a second what nghttp2 allows of what helps nobody.
const PING: Budget =
    Budget { begin: 1000, limit: 10_000, per_second: 33, per_stream: 1, per_data: 1 };
/// Few clients ever send more than one.
const CONTROL: Budget =
    Budget { begin: 100, limit: 100, per_second: 1, per_stream: 0, per_data: 0 };
/// Source: Envoy's `max_inbound_priority_frames_per_stream`, 100.
const PRIORITY: Budget =
    Budget { begin: 100, limit: 25_000, per_second: 1, per_stream: 100, per_data: 0 };
/// Source: Envoy's `max_inbound_window_update_frames_per_data_frame_sent`, 10, of which it counts two:
/// one for the stream and one for the connection. The limit is for a client that answers late.
const WINDOW_UPDATE: Budget =
    Budget { begin: 100, limit: 100_000, per_second: 1, per_stream: 2, per_data: 20 };
/// Each is a request that has begun to cost what a request costs, on both sides of this proxy. Fewer at
/// once than in nghttp2's `nghttp2_option_set_stream_reset_rate_limit` (1000, and the same 33 a second)
/// or among Envoy's premature resets (500): with 1000, sixty connections of a flood made others wait.
const RESET: Budget = Budget { begin: 250, limit: 250, per_second: 33, per_stream: 0, per_data: 0 };
/// A proxy passes on what its clients cancel, however much that is, and its connection is everybody's:
/// a stream may be given up once, and only what is reset beyond that counts. What they cost is bounded
/// by how many are open ([`crate::listen::HTTP2_STREAM_LIMIT`]) and, in h2, by how many are reset and
/// not yet gone ([`crate::listen::HTTP2_RESET_LIMIT`]).
const RESET_TRUSTED: Budget =
    Budget { begin: 1000, limit: 1000, per_second: 33, per_stream: 1, per_data: 0 };
/// As h2 has it: `MAX_RECV_EMPTY_DATA_FRAMES`.
const EMPTY_DATA_LIMIT: u32 = 100;
/// As h2 makes it of the limit on headers and the largest frame: a quarter more than 64 KiB take in
/// frames of 16 KiB.
const CONTINUATION_LIMIT: u32 = 5;

/// `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n` (RFC 9113, section 3.4).
const PREFACE_BYTES: u32 = 24;

#[cfg(test)]
mod tests;
