//! The settings for limits on time, number and memory: a row each. What they bound is in listen.rs.

use std::fmt;
use std::time::Duration;

use heddle_runtime::duration;

use crate::config::{Reader, Setting};
use crate::listen::DataPathSettings;

/// A limit on time.
pub(super) struct Timer {
    setting: Setting,
    of: fn(&mut DataPathSettings) -> &mut Duration,
}

/// Every limit that can be set.
pub(super) fn settings() -> impl Iterator<Item = &'static Setting> {
    TIMERS.iter().map(|timer| &timer.setting).chain([
        &CONNECTION_LIMIT,
        &WARM_CONNECTIONS,
        &MEMORY_LIMIT,
        &WORKERS,
    ])
}

/// The defaults, but for what is set.
pub(super) fn read(reader: &mut Reader<'_>) -> DataPathSettings {
    let mut settings = DataPathSettings::default();
    for timer in &TIMERS {
        let want = "a duration above zero such as \"30s\"";
        let parse = |text: &str| duration::parse(text).ok().filter(|time| !time.is_zero());
        if let Some(time) = reader.optional(&timer.setting, want, parse) {
            *(timer.of)(&mut settings) = time;
        }
    }
    let parse = |text: &str| text.parse().ok().filter(|limit| *limit > 0);
    if let Some(limit) = reader.optional(&CONNECTION_LIMIT, "a number above zero", parse) {
        settings.connection_limit = limit;
    }
    let parse = |text: &str| text.parse().ok();
    if let Some(number) = reader.optional(&WARM_CONNECTIONS, "a number", parse) {
        settings.warm_connections = number;
    }
    let want = "bytes, such as \"67108864\" or \"64Mi\"";
    settings.memory_limit_bytes = reader.optional(&MEMORY_LIMIT, want, parse_bytes);
    settings
}

/// How many threads carry traffic.
pub(super) fn workers(reader: &mut Reader<'_>) -> Option<usize> {
    let want = "a number of threads from 1 to 256";
    let parse =
        |text: &str| text.parse().ok().filter(|workers| (1..=WORKERS_LIMIT).contains(workers));
    reader.required(&WORKERS, want, parse)
}

/// What is not as it is by default, for the log.
pub(super) fn show(settings: &DataPathSettings, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (mut settings, mut defaults) = (*settings, DataPathSettings::default());
    for timer in &TIMERS {
        let (time, default) = (*(timer.of)(&mut settings), *(timer.of)(&mut defaults));
        if time != default {
            write!(f, " {}={}", timer.setting.flag, duration::Text(time))?;
        }
    }
    if settings.connection_limit != defaults.connection_limit {
        write!(f, " {}={}", CONNECTION_LIMIT.flag, settings.connection_limit)?;
    }
    if settings.warm_connections != defaults.warm_connections {
        write!(f, " {}={}", WARM_CONNECTIONS.flag, settings.warm_connections)?;
    }
    match settings.memory_limit_bytes {
        Some(limit_bytes) => write!(f, " {}={limit_bytes}", MEMORY_LIMIT.flag),
        None => Ok(()),
    }
}

/// As Kubernetes writes quantities of memory, in whole numbers: `67108864`, `64Mi`, `1G`.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..)?;
    let (_, unit_bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(*unit_bytes).filter(|bytes| *bytes > 0)
}

const UNITS: [(&str, u64); 7] = [
    ("", 1),
    ("k", 1000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
];

const fn timer(
    flag: &'static str,
    variable: &'static str,
    help: &'static str,
    of: fn(&mut DataPathSettings) -> &mut Duration,
) -> Timer {
    let value_name = "DURATION";
    Timer { setting: Setting { flag, variable, value_name, default: None, help }, of }
}

const TIMERS: [Timer; 11] = [
    timer(
        "connect-timeout",
        "HEDDLE_CONNECT_TIMEOUT",
        "How long an address may take to accept a connection; 4s if not set",
        |settings| &mut settings.connect_timeout,
    ),
    timer(
        "detection-timeout",
        "HEDDLE_DETECTION_TIMEOUT",
        "From a client's first byte to the one that tells its protocol; 10s if not set",
        |settings| &mut settings.detection_timeout,
    ),
    timer(
        "handshake-timeout",
        "HEDDLE_HANDSHAKE_TIMEOUT",
        "How long a caller may take for its handshake; 10s if not set",
        |settings| &mut settings.handshake_timeout,
    ),
    timer(
        "request-head-timeout",
        "HEDDLE_REQUEST_HEAD_TIMEOUT",
        "How long a client may take for a request's head, of HTTP/1; 10s if not set",
        |settings| &mut settings.request_head_timeout,
    ),
    timer(
        "body-idle-timeout",
        "HEDDLE_BODY_IDLE_TIMEOUT",
        "How long a client may pause in its request, or in reading the response; 5m if not set",
        |settings| &mut settings.body_idle,
    ),
    timer(
        "stream-idle-timeout",
        "HEDDLE_STREAM_IDLE_TIMEOUT",
        "How long an HTTP/2 stream may be silent when it is not the client's turn; 1h if not set",
        |settings| &mut settings.stream_idle,
    ),
    timer(
        "opaque-idle-timeout",
        "HEDDLE_OPAQUE_IDLE_TIMEOUT",
        "How long a connection carried as bytes may be silent in both directions; 1h if not set",
        |settings| &mut settings.opaque_idle,
    ),
    timer(
        "inbound-idle-timeout",
        "HEDDLE_INBOUND_IDLE_TIMEOUT",
        "How long an incoming HTTP connection may be without a request; 2m if not set. Other \
         proxies keep theirs for one minute: with less, requests can meet a closing connection",
        |settings| &mut settings.inbound_idle,
    ),
    timer(
        "outbound-idle-timeout",
        "HEDDLE_OUTBOUND_IDLE_TIMEOUT",
        "How long an HTTP connection of the application may be without a request; 10m if not set",
        |settings| &mut settings.outbound_idle,
    ),
    timer(
        "http2-ping-interval",
        "HEDDLE_HTTP2_PING_INTERVAL",
        "How often an HTTP/2 peer, or a proxy that many connections of HTTP/1 go to at once, is asked whether it is there; 20s if not set",
        |settings| &mut settings.http2_ping_interval,
    ),
    timer(
        "http2-ping-timeout",
        "HEDDLE_HTTP2_PING_TIMEOUT",
        "How long it may take to answer that; 10s if not set",
        |settings| &mut settings.http2_ping_timeout,
    ),
];
const CONNECTION_LIMIT: Setting = Setting {
    flag: "connection-limit",
    variable: "HEDDLE_CONNECTION_LIMIT",
    value_name: "NUMBER",
    default: None,
    help: "Connections open at once in one direction; 10000 if not set",
};
const WARM_CONNECTIONS: Setting = Setting {
    flag: "warm-connections",
    variable: "HEDDLE_WARM_CONNECTIONS",
    value_name: "NUMBER",
    default: None,
    help: "Idle connections to one endpoint's proxy that are kept for later TCP connections of the \
           application; 128 if not set. 0: a handshake for each, to and from other proxies",
};
const MEMORY_LIMIT: Setting = Setting {
    flag: "memory-limit",
    variable: "HEDDLE_MEMORY_LIMIT",
    value_name: "BYTES",
    default: None,
    help: "Connections are refused when the proxy takes most of this; the container's limit, if \
           there is one, counts as well",
};
const WORKERS: Setting = Setting {
    flag: "workers",
    variable: "HEDDLE_WORKERS",
    value_name: "NUMBER",
    default: Some("1"),
    help: "Threads that carry traffic; on Kubernetes the injector sets as many as the limit on CPU has \
           whole processors",
};
/// More than any machine has use for beside an application.
const WORKERS_LIMIT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, expected) in [
            ("67108864", Some(67_108_864)),
            ("64Mi", Some(67_108_864)),
            ("1G", Some(1_000_000_000)),
            ("0", None),
            ("64mi", None),
            ("1.5Gi", None),
            ("-1", None),
            ("Mi", None),
            ("", None),
            ("99999999999Gi", None),
        ] {
            assert_eq!(parse_bytes(text), expected, "case: {text}");
        }
    }

    #[test]
    fn help_tells_the_defaults() {
        let mut defaults = DataPathSettings::default();
        for timer in &TIMERS {
            let default = duration::Text(*(timer.of)(&mut defaults)).to_string();
            let told = format!("; {default} if not set");
            assert!(timer.setting.help.contains(&told), "{}: {told}", timer.setting.flag);
        }
    }
}
