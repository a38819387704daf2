//! Routes for people. Pure.

use std::fmt::Write as _;

use heddle_report::routes::{Parent, RouteReport, RoutesReport, Rule};

use crate::output::Colour;
use crate::table::{self, Cell};

/// A row for each rule, and below what is wrong. With more columns, if it may be wide.
pub fn text(report: &RoutesReport, wide: bool, colour: Colour) -> String {
    if report.routes.is_empty() {
        return NOTHING.to_owned();
    }
    let mut header = vec!["ROUTE", "SERVICE", "HOSTS", "MATCHES", "BACKENDS", "STATE", "PROXIES"];
    if wide {
        header.extend(["RULE", "FILTERS", "FILE"]);
    }
    let mut rows = Vec::new();
    for route in &report.routes {
        for (index, rule) in route.rules.iter().enumerate() {
            rows.push(row(route, rule, (index == 0, wide)));
        }
        if route.rules.is_empty() {
            rows.push(row(route, &no_rule(), (true, wide)));
        }
    }
    let mut text = table::render(&header, &rows, colour);
    let told = complaints(report);
    if !told.is_empty() {
        let _ = write!(text, "\n{told}");
    }
    text
}

fn row(route: &RouteReport, rule: &Rule, (first, wide): (bool, bool)) -> Vec<Cell> {
    let only_first = |text: String| Cell::plain(if first { text } else { String::new() });
    let backends: Vec<String> = rule
        .backends
        .iter()
        .map(|backend| match (&backend.problem, rule.backends.len()) {
            (Some(_), _) => {
                format!("{} {} (missing)", short(route, &backend.backend), backend.share)
            }
            (None, 1) => short(route, &backend.backend),
            (None, _) => format!("{} {}", short(route, &backend.backend), backend.share),
        })
        .collect();
    let mut row = vec![
        only_first(route.title()),
        only_first(parents(route)),
        only_first(if route.hostnames.is_empty() {
            "*".to_owned()
        } else {
            route.hostnames.join(", ")
        }),
        Cell::plain(rule.conditions.join(" or ")),
        Cell::plain(backends.join(", ")),
        state(route, rule),
        only_first(proxies(route)),
    ];
    if wide {
        row.extend([
            Cell::plain(&rule.field),
            Cell::plain(rule.filters.join("; ")),
            only_first(route.file.clone()),
        ]);
    }
    row
}

fn no_rule() -> Rule {
    Rule {
        field: String::new(),
        conditions: vec!["no rule".to_owned()],
        filters: Vec::new(),
        backends: Vec::new(),
        held: Vec::new(),
    }
}

/// A backend of the route's own namespace without it.
fn short(route: &RouteReport, backend: &str) -> String {
    let own = backend.strip_prefix(&route.namespace).and_then(|rest| rest.strip_prefix('/'));
    match own.unwrap_or(backend) {
        "" => "no service".to_owned(),
        name => name.to_owned(),
    }
}

fn parents(route: &RouteReport) -> String {
    let one = |parent: &Parent| {
        let service = short(route, &parent.service);
        match (parent.port, &parent.port_name) {
            (Some(port), _) => format!("{service}:{port}"),
            (None, Some(name)) => format!("{service}:{name}"),
            (None, None) => service,
        }
    };
    route.parents.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// `2 of 3`: how many of those that hold it act on its newest state.
pub fn proxies(route: &RouteReport) -> String {
    match (route.proxies, route.refused) {
        (0, _) => "none".to_owned(),
        (proxies, 0) => format!("{} of {proxies}", route.acknowledged),
        (proxies, refused) => format!("{} of {proxies}, {refused} refuse", route.acknowledged),
    }
}

fn state(route: &RouteReport, rule: &Rule) -> Cell {
    let refused = route.refusals().next().map(|condition| condition.reason.clone());
    let shadowed = route.shadows_of(&rule.field).next();
    match (refused, shadowed) {
        (Some(reason), _) => Cell::bad(reason),
        (None, Some(_)) => Cell::bad("shadowed"),
        (None, None) => Cell::good("ok"),
    }
}

fn complaints(report: &RoutesReport) -> String {
    let mut text = String::new();
    for route in &report.routes {
        for condition in route.refusals() {
            let (kind, message) = (&condition.kind, &condition.message);
            let _ = writeln!(text, "{}: not {kind}: {message}", route.title());
        }
        for shadow in &route.shadows {
            let what = shadow.field.as_deref().unwrap_or("the whole route");
            let callers = shadow.callers.as_ref();
            let callers = callers.map(|namespace| format!(", for callers of {namespace}"));
            let by_field = shadow.by_field.as_ref().map(|field| format!(" {field}"));
            let _ = writeln!(
                text,
                "{}: {what} gets nothing at {}{}: {}{} does",
                route.title(),
                shadow.service,
                callers.unwrap_or_default(),
                shadow.by,
                by_field.unwrap_or_default(),
            );
        }
        let backends = route.rules.iter().flat_map(|rule| &rule.backends);
        for problem in backends.filter_map(|backend| backend.problem.as_ref()) {
            let line = format!("{}: {problem}\n", route.title());
            if !route.conditions.iter().any(|known| known.message.contains(problem.as_str())) {
                text.push_str(&line);
            }
        }
    }
    text
}

/// What is said where there is none.
const NOTHING: &str = "\
no route is attached to a service: every service sends to its own endpoints
try  an HTTPRoute with the service as its parent, or a TrafficSplit: docs/routes.md
";
