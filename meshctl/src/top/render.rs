//! Traffic and its last minutes as a table, where there is no terminal. Pure.

use crate::output::Colour;
use crate::stat::render::{percent, time};
use crate::table::{self, Cell};
use crate::top::keys::State;
use crate::top::report::{TopReport, TopRow};
use crate::top::spark::{self, Sparks};
use heddle_report::stat::Percentiles;

/// The rows as a table, in the order of the state.
pub fn table(
    report: &TopReport,
    state: &State,
    (wide, no_headers): (bool, bool),
    colour: Colour,
) -> String {
    let mut header = vec!["NAME", "SUCCESS", "RPS", "P50", "P95", "P99", "LAST_5M", "FAILED"];
    if wide {
        header.extend(["REQUESTS", "FAILURES", "TCP_CONN"]);
    }
    let rows: Vec<Vec<Cell>> = state
        .rows(report)
        .into_iter()
        .map(|row| {
            let failed = row.row.failures > 0;
            let success = success(row);
            let Sparks { requests, failures } = spark::draw(&row.history, report.history.steps);
            let has_failed = row.history.iter().any(|step| step.failures > 0);
            let mut cells = vec![
                Cell::plain(row.label(report.by, report.namespace.is_none())),
                if failed { Cell::bad(success) } else { Cell::plain(success) },
                Cell::plain(rate(row)),
                Cell::plain(latency(row, |all| all.p50)),
                Cell::plain(latency(row, |all| all.p95)),
                Cell::plain(latency(row, |all| all.p99)),
                Cell::plain(requests),
                if has_failed { Cell::bad(failures) } else { Cell::plain(failures) },
            ];
            if wide {
                cells.push(Cell::plain(row.row.requests.to_string()));
                cells.push(Cell::plain(row.row.failures.to_string()));
                cells.push(Cell::plain(row.row.tcp.open_connections.to_string()));
            }
            cells
        })
        .collect();
    table::headed(table::render(&header, &rows, colour), no_headers)
}

/// The share of successes; a dash without requests.
pub fn success(row: &TopRow) -> String {
    row.row.success_rate.map_or("-".to_owned(), percent)
}

/// Requests per second; a dash without requests.
pub fn rate(row: &TopRow) -> String {
    match row.row.requests {
        0 => "-".to_owned(),
        _ => format!("{:.1}", row.row.requests_per_second),
    }
}

/// One of the percentiles; a dash without requests.
pub fn latency(row: &TopRow, pick: fn(&Percentiles) -> f64) -> String {
    row.row.latency_seconds.as_ref().map_or("-".to_owned(), |all| time(pick(all)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::arguments::Column;
    use crate::top::report::tests::report;

    #[test]
    fn the_last_minutes_read_at_a_glance() {
        let state = State::new(Column::Rps);
        let shown = |flags| table(&report(), &state, flags, Colour::Never);
        insta::assert_snapshot!(shown((false, false)));
        insta::assert_snapshot!(shown((true, true)));
    }
}
