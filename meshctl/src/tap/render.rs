//! Requests for people, each on a line, in columns that grow with what is in them. Pure.

use std::time::Duration;

use heddle_model::tap::typed::grpc_name;
use heddle_proto::tap as wire;
use heddle_report::edges::short;
use heddle_report::tap::is_failure;

use crate::output::Colour;

/// How wide columns are so far: what was printed cannot be moved.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    widths: [usize; 5],
}

impl Columns {
    /// A request, with a line end; lines of its headers below it.
    pub fn line(&mut self, told: &wire::Exchange, colour: Colour) -> String {
        let pod = told.workload.as_ref().map_or("", |workload| workload.pod.as_str());
        let arrow = match told.side() {
            wire::Side::Inbound => "<-",
            wire::Side::Outbound => "->",
            wire::Side::Unspecified => "--",
        };
        let request = format!("{} {}", clean(&told.method), clean(&told.path));
        let columns = [
            clean(pod),
            format!("{arrow} {}", other_end(told)),
            request,
            status(told),
            time(told.took_nanos),
        ];
        let mut text = colour.dim(&time_of_day(told.began_unix_nanos));
        for (index, (column, width)) in columns.iter().zip(&mut self.widths).enumerate() {
            let length = column.chars().count();
            *width = length.max(*width).min(WIDTH_LIMIT);
            let painted = match index {
                STATUS_COLUMN if is_failure(told) => colour.bad(column),
                STATUS_COLUMN if told.status < 400 => colour.good(column),
                _ => column.clone(),
            };
            text.push_str("  ");
            text.push_str(&painted);
            text.extend(std::iter::repeat_n(' ', width.saturating_sub(length)));
        }
        text.push_str("  ");
        text.push_str(&notes(told));
        let mut text = text.trim_end().to_owned() + "\n";
        for (mark, headers) in [('>', &told.request_headers), ('<', &told.response_headers)] {
            for header in headers {
                let value = header.value.as_deref().map_or("(not shown)".to_owned(), clean);
                text.push_str(&format!("    {mark} {}: {value}\n", clean(&header.name)));
            }
        }
        text
    }
}

/// Who is at the other end, as far as that is known.
pub fn other_end(told: &wire::Exchange) -> String {
    let identity = match short(&told.peer) {
        Some((namespace, account)) => format!("{namespace}/{account}"),
        None => told.peer.clone(),
    };
    let text = match told.side() {
        wire::Side::Outbound if !told.service.is_empty() => told.service.clone(),
        wire::Side::Outbound | wire::Side::Inbound | wire::Side::Unspecified
            if !identity.is_empty() =>
        {
            identity
        }
        wire::Side::Outbound => told.authority.clone(),
        wire::Side::Inbound | wire::Side::Unspecified => "unknown".to_owned(),
    };
    clean(&text)
}

/// The HTTP status, and that of gRPC.
pub fn status(told: &wire::Exchange) -> String {
    match told.grpc_status {
        Some(grpc) => format!("{} {}", told.status, grpc_name(grpc)),
        None => told.status.to_string(),
    }
}

/// What is worth a word.
pub fn notes(told: &wire::Exchange) -> String {
    let mut notes = vec![if told.mtls { "mtls".to_owned() } else { "plaintext".to_owned() }];
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            notes.push(format!("{name}={}", clean(value)));
        }
    };
    add("route", &told.route);
    // What a workload is called as is no news to it.
    if told.side() == wire::Side::Outbound {
        if told.backend != told.service {
            add("backend", &told.backend);
        }
        add("pod", &told.endpoint_pod);
    }
    add("error", &told.error);
    if told.attempts > 1 {
        add("attempts", &told.attempts.to_string());
    }
    if !told.is_whole {
        notes.push("broken off".to_owned());
    }
    notes.join(" ")
}

/// Why nothing comes, as far as that can be told.
pub fn silence(standing: &wire::Standing, has_filter: bool) -> String {
    let wire::Standing { proxies, without_proxy, .. } = standing;
    let bare = match without_proxy {
        0 => String::new(),
        count => format!("; {count} of the pods have no proxy, and are not seen"),
    };
    match (proxies, has_filter) {
        (0, _) => format!(
            "no request yet, and no proxy looks for one: see `meshctl proxy status` for those that are connected{bare}"
        ),
        (proxies, true) => {
            format!("no request yet that matches; {proxies} proxies look for one{bare}")
        }
        (proxies, false) => format!("no request yet; {proxies} proxies look for one{bare}"),
    }
}

/// Who looks.
pub fn looking(standing: &wire::Standing) -> String {
    let wire::Standing { proxies, without_proxy, .. } = standing;
    let noun = if *proxies == 1 { "proxy looks" } else { "proxies look" };
    match without_proxy {
        0 => format!("{proxies} {noun} for requests"),
        count => format!("{proxies} {noun} for requests; pods without a proxy: {count}"),
    }
}

/// With a unit that fits.
pub fn time(nanos: u64) -> String {
    let milliseconds = Duration::from_nanos(nanos).as_secs_f64() * 1000.0;
    if milliseconds < 10.0 {
        format!("{milliseconds:.2}ms")
    } else if milliseconds < 1000.0 {
        format!("{milliseconds:.1}ms")
    } else {
        format!("{:.2}s", milliseconds / 1000.0)
    }
}

/// Of a day of UTC: what is looked at happened just now.
fn time_of_day(unix_nanos: u64) -> String {
    let milliseconds = unix_nanos / 1_000_000;
    let (seconds, rest) = (milliseconds / 1000 % 86_400, milliseconds % 1000);
    let (minutes, hours) = (seconds / 60 % 60, seconds / 3600);
    format!("{hours:02}:{minutes:02}:{:02}.{rest:03}", seconds % 60)
}

/// What others wrote does nothing to a terminal.
pub fn clean(text: &str) -> String {
    if !text.contains(|c: char| c.is_control()) {
        return text.to_owned();
    }
    text.chars()
        .flat_map(|c| {
            let escaped: Vec<char> =
                if c.is_control() { c.escape_default().collect() } else { vec![c] };
            escaped
        })
        .collect()
}

const STATUS_COLUMN: usize = 3;
/// A longer text moves its own line alone.
const WIDTH_LIMIT: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::tests::exchange;

    #[test]
    fn requests_are_lines_in_columns() {
        let mut columns = Columns::default();
        let mut text = String::new();
        let got = exchange(wire::Side::Inbound, "api-7d9f-x", "frontend");
        text += &columns.line(&got, Colour::Never);
        let mut sent = exchange(wire::Side::Outbound, "web-1", "api");
        sent.service = "shop/api:8080".into();
        sent.backend = "shop/api-v2:8080".into();
        sent.route = "canary".into();
        sent.endpoint_pod = "api-v2-1".into();
        text += &columns.line(&sent, Colour::Never);
        let mut failed = exchange(wire::Side::Outbound, "web-1", "api");
        failed.service = "shop/api:8080".into();
        failed.peer.clear();
        failed.status = 503;
        failed.error = "no_endpoint".into();
        failed.attempts = 3;
        failed.took_nanos = 1_234_000_000;
        failed.mtls = false;
        text += &columns.line(&failed, Colour::Never);
        let mut call = exchange(wire::Side::Inbound, "api-1", "");
        call.peer.clear();
        call.grpc_status = Some(14);
        call.is_whole = false;
        call.path = "/a\u{1b}[31m".into();
        call.request_headers = vec![
            wire::Header { name: "accept".into(), value: Some("*/*".into()) },
            wire::Header { name: "cookie".into(), value: None },
        ];
        text += &columns.line(&call, Colour::Never);
        insta::assert_snapshot!(text);
        assert!(columns.line(&failed, Colour::Ansi).contains("\u{1b}[31m503"));
        assert!(columns.line(&got, Colour::Ansi).contains("\u{1b}[32m200"));
    }

    #[test]
    fn silence_is_explained() {
        let standing = |proxies, without_proxy| wire::Standing {
            proxies,
            without_proxy,
            ..Default::default()
        };
        for (standing, has_filter, expected) in [
            (standing(2, 0), false, "no request yet; 2 proxies look for one"),
            (standing(2, 0), true, "no request yet that matches; 2 proxies"),
            (standing(0, 3), false, "no proxy looks for one"),
            (standing(1, 3), false, "3 of the pods have no proxy"),
        ] {
            let text = silence(&standing, has_filter);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn times_have_a_unit_that_fits() {
        for (nanos, expected) in
            [(500_000, "0.50ms"), (12_340_000, "12.3ms"), (1_500_000_000, "1.50s")]
        {
            assert_eq!(time(nanos), expected);
        }
    }
}
