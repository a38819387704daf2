//! Traffic for people. Pure.

use heddle_report::stat::{Percentiles, Row, StatReport};

use crate::output::Colour;
use crate::table::{self, Cell};
use crate::traffic::Look;

/// How many columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// The golden signals.
    Usual,
    /// Counts beside them.
    Wide,
}

/// The rows as a table.
pub fn table(report: &StatReport, width: Width, look: &Look, colour: Colour) -> String {
    let with_namespace = look.all_namespaces;
    let mut header = Vec::new();
    if with_namespace {
        header.push("NAMESPACE");
    }
    header.extend(match report.by {
        "backend" => &["SERVICE", "BACKEND"][..],
        "route" => &["SERVICE", "ROUTE"],
        _ => &["NAME"],
    });
    header.extend(["MESHED", "SUCCESS", "RPS", "P50", "P95", "P99", "TCP_CONN"]);
    if width == Width::Wide {
        header.extend(["REQUESTS", "FAILED", "MTLS", "CONNECTIONS", "SENT", "RECEIVED"]);
        header.extend(["PROXY_IN", "PROXY_OUT"]);
    }
    let rows: Vec<Vec<Cell>> = report
        .rows
        .iter()
        .map(|row| {
            let mut cells = Vec::new();
            if with_namespace {
                cells.push(Cell::plain(&row.namespace));
            }
            cells.extend(names(row, report.by));
            cells.extend(signals(row));
            if width == Width::Wide {
                cells.extend(counts(row));
            }
            cells
        })
        .collect();
    let text = table::render(&header, &rows, colour);
    match text.split_once('\n') {
        Some((_, rows)) if look.no_headers => rows.to_owned(),
        Some(_) | None => text,
    }
}

fn names(row: &Row, by: &str) -> Vec<Cell> {
    let service = || Cell::plain(row.service.split_once('/').map_or("", |(_, name)| name));
    match by {
        "backend" => vec![service(), Cell::plain(&row.name)],
        "route" if row.name.is_empty() => vec![service(), Cell::plain("(none)")],
        "route" => vec![service(), Cell::plain(&row.name)],
        "workload" => vec![Cell::plain(row.title())],
        _ => vec![Cell::plain(&row.name)],
    }
}

fn signals(row: &Row) -> Vec<Cell> {
    let meshed = match row.meshed.zip(row.pods) {
        None => Cell::plain("-"),
        Some((meshed, pods)) if meshed == pods => Cell::plain(format!("{meshed}/{pods}")),
        Some((meshed, pods)) => Cell::bad(format!("{meshed}/{pods}")),
    };
    let latency = |pick: fn(&Percentiles) -> f64| {
        Cell::plain(row.latency_seconds.as_ref().map_or("-".to_owned(), |all| time(pick(all))))
    };
    let rate = match row.requests {
        0 => "-".to_owned(),
        _ => format!("{:.1}", row.requests_per_second),
    };
    let open = match row.tcp.open_connections.max(row.tcp.connections) {
        0 => "-".to_owned(),
        _ => row.tcp.open_connections.to_string(),
    };
    vec![
        meshed,
        success(row.success_rate),
        Cell::plain(rate),
        latency(|all| all.p50),
        latency(|all| all.p95),
        latency(|all| all.p99),
        Cell::plain(open),
    ]
}

fn counts(row: &Row) -> Vec<Cell> {
    let count =
        |count: u64| Cell::plain(if row.is_busy() { count.to_string() } else { "-".to_owned() });
    let failed = row.failures.to_string();
    vec![
        count(row.requests),
        if row.failures > 0 { Cell::bad(failed) } else { count(0) },
        match row.mtls_share {
            None => Cell::plain("-"),
            Some(share) if share >= 1.0 => Cell::good("100 %"),
            Some(share) => Cell::bad(percent(share)),
        },
        count(row.tcp.connections),
        Cell::plain(bytes(row.tcp.to_server_bytes)),
        Cell::plain(bytes(row.tcp.to_client_bytes)),
        own_time(row.proxy_seconds.and_then(|own| own.inbound)),
        own_time(row.proxy_seconds.and_then(|own| own.outbound)),
    ]
}

/// The median and the 99th percentile of what a proxy takes.
fn own_time(measured: Option<Percentiles>) -> Cell {
    Cell::plain(
        measured.map_or("-".to_owned(), |all| format!("{}/{}", time(all.p50), time(all.p99))),
    )
}

fn success(rate: Option<f64>) -> Cell {
    match rate {
        None => Cell::plain("-"),
        Some(rate) if rate >= 1.0 => Cell::good("100.00 %"),
        Some(rate) if rate >= FAIR_SUCCESS => Cell::plain(percent(rate)),
        Some(rate) => Cell::bad(percent(rate)),
    }
}

/// A share that is not whole does not read as 100 %.
pub fn percent(share: f64) -> String {
    let hundredths = (share * 10_000.0).floor() / 100.0;
    format!("{hundredths:.2} %")
}

/// With two or three digits that mean something.
pub fn time(seconds: f64) -> String {
    let millis = seconds * 1000.0;
    match millis {
        _ if millis < 1.0 => format!("{millis:.2}ms"),
        _ if millis < 10.0 => format!("{millis:.1}ms"),
        _ if millis < 1000.0 => format!("{millis:.0}ms"),
        _ if millis < 10_000.0 => format!("{seconds:.1}s"),
        _ => format!("{seconds:.0}s"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "two digits, for people")]
fn bytes(bytes: u64) -> String {
    if bytes == 0 {
        return "-".to_owned();
    }
    let mut size = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if size < 1024.0 {
            return if unit == "B" { format!("{bytes}B") } else { format!("{size:.1}{unit}") };
        }
        size /= 1024.0;
    }
    format!("{size:.1}TiB")
}

/// Below it somebody should look.
const FAIR_SUCCESS: f64 = 0.99;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stat::tests::report;
    use clap::Parser;
    use heddle_report::stat::What;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        look: Look,
    }

    fn shown(width: Width, arguments: &[&str]) -> String {
        let line = Line::try_parse_from([&["stat"], arguments].concat()).unwrap();
        table(&report(What::Workloads(None), None), width, &line.look, Colour::Never)
    }

    #[test]
    fn traffic_reads_at_a_glance() {
        insta::assert_snapshot!(shown(Width::Usual, &[]), @"
        NAME            MESHED  SUCCESS  RPS   P50    P95   P99   TCP_CONN
        deployment/api  2/3     99.75 %  20.0  4.2ms  87ms  1.2s  4
        pod/client      1/1     -        -     -      -     -     -
        ");
        insta::assert_snapshot!(shown(Width::Wide, &["-A", "--no-headers"]), @"
        shop       deployment/api  2/3     99.75 %  20.0  4.2ms  87ms  1.2s  4         1230      3       80.00 %  20           2.0KiB  5.2MiB    0.12ms/2.1ms  -
        shop       pod/client      1/1     -        -     -      -     -     -         -         -       -        -            -       -         -             -
        ");
    }

    #[test]
    fn numbers_have_digits_that_mean_something() {
        for (seconds, expected) in [
            (0.000_42, "0.42ms"),
            (0.0042, "4.2ms"),
            (0.087, "87ms"),
            (1.25, "1.2s"),
            (12.6, "13s"),
        ] {
            assert_eq!(time(seconds), expected);
        }
        for (count, expected) in [(0, "-"), (9, "9B"), (2048, "2.0KiB"), (5_500_000, "5.2MiB")] {
            assert_eq!(bytes(count), expected);
        }
        assert_eq!(percent(0.999_99), "99.99 %");
    }
}
