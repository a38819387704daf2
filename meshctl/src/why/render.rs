//! The answer for people. Pure.

use std::fmt::Write as _;

use crate::identity::render::{days_left, duration_text};
use crate::output::Colour;
use crate::table::{self, Cell};
use crate::why::report::{Endpoint, State, WhyReport};

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The first few of what there is many of.
    Short,
    /// All of it, and the candidates that did not win.
    Wide,
}

/// The whole text; the verdict comes last, where the eye ends on a terminal.
pub fn text(report: &WhyReport, detail: Detail, now: i64, colour: Colour) -> String {
    let rows: Vec<Vec<Cell>> = report
        .steps
        .iter()
        .map(|step| {
            let (mark, says) = match step.state {
                State::Good => (Cell::good("ok"), Cell::plain(&step.says)),
                State::Note => (Cell::plain("note"), Cell::plain(&step.says)),
                State::Fails => (Cell::bad("FAILS"), Cell::bad(&step.says)),
            };
            vec![Cell::plain(step.step), mark, Cell::plain(&step.object), says]
        })
        .collect();
    let mut text = table::render(&["STEP", "", "FROM", "WHAT"], &rows, colour);
    text.push_str(&endpoints(report, detail, now, colour));
    if let (Some(issuer), Some("mtls" | "mixed")) = (&report.issuer, report.tls) {
        let end = i64::max(issuer.not_after - now, 0);
        let left = duration_text(end);
        let _ = writeln!(text, "certificates are of {}, which has {left} left", issuer.subject);
    }
    if detail == Detail::Wide {
        text.push_str(&candidates(report, colour));
    }
    let verdict = if report.served { colour.good("served") } else { colour.bad("not served") };
    let verdict = match report.outcome {
        "partly" => colour.bad("served in part"),
        _ => verdict,
    };
    let _ = write!(text, "\n{verdict}  {}\n", report.verdict);
    if let Some(remedy) = &report.remedy {
        let _ = writeln!(text, "try  {remedy}");
    }
    text
}

fn endpoints(report: &WhyReport, detail: Detail, now: i64, colour: Colour) -> String {
    let limit = match detail {
        Detail::Short => ENDPOINTS_SHOWN,
        Detail::Wide => usize::MAX,
    };
    let mut rows = Vec::new();
    let mut hidden = 0;
    for backend in &report.backends {
        hidden += backend.endpoints.len().saturating_sub(limit);
        for endpoint in backend.endpoints.iter().take(limit) {
            rows.push(row(&backend.backend, endpoint, now));
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let header = ["BACKEND", "ENDPOINT", "POD", "ZONE", "READY", "TLS", "INBOUND", "CERTIFICATE"];
    let mut text = format!("\n{}", table::render(&header, &rows, colour));
    if hidden > 0 {
        let more = format!("and {hidden} more: `--output wide` shows them");
        let _ = writeln!(text, "{}", colour.dim(&more));
    }
    text
}

fn row(backend: &str, endpoint: &Endpoint, now: i64) -> Vec<Cell> {
    let ready = if endpoint.ready { Cell::good("yes") } else { Cell::bad("no") };
    let tls = match endpoint.tls {
        "mtls" => Cell::good("mutual"),
        "refused" => Cell::bad("refused"),
        other => Cell::plain(other),
    };
    let inbound = endpoint.inbound_mode.unwrap_or("no proxy");
    let certificate = endpoint.certificate_not_after;
    vec![
        Cell::plain(backend),
        Cell::plain(&endpoint.address),
        Cell::plain(&endpoint.pod),
        Cell::plain(&endpoint.zone),
        ready,
        tls,
        Cell::plain(inbound),
        certificate.map_or_else(|| Cell::plain(""), |end| days_left(end, now)),
    ]
}

fn candidates(report: &WhyReport, colour: Colour) -> String {
    if report.candidates.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<Cell>> = report
        .candidates
        .iter()
        .map(|candidate| {
            let verdict = match candidate.verdict {
                "wins" => Cell::good("wins"),
                "holds" => Cell::plain("holds, and comes later"),
                "other_host" => Cell::plain("for another host"),
                _ => Cell::plain("does not hold"),
            };
            let object = match candidate.object.as_str() {
                "" => "the service's own",
                object => object,
            };
            vec![
                Cell::plain(object),
                Cell::plain(&candidate.field),
                Cell::plain(&candidate.condition),
                verdict,
            ]
        })
        .collect();
    format!("\n{}", table::render(&["ROUTE", "RULE", "CONDITION", "VERDICT"], &rows, colour))
}

/// The objects that have a part in it, each once.
pub fn names(report: &WhyReport) -> String {
    let mut names: Vec<&str> = Vec::new();
    for step in report.steps.iter().filter(|step| !step.object.is_empty()) {
        if !names.contains(&step.object.as_str()) {
            names.push(&step.object);
        }
    }
    names.iter().map(|name| format!("{name}\n")).collect()
}

/// Of each backend.
const ENDPOINTS_SHOWN: usize = 5;
