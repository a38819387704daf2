//! Splits for people. Pure.

use crate::output::Colour;
use crate::split::report::{SplitReport, SplitsReport};
use crate::table::{self, Cell};

/// A row for each backend of each split: its share as it is wanted, and as proxies act on it.
pub fn text(report: &SplitsReport, service: Option<&str>, wide: bool, colour: Colour) -> String {
    if report.splits.is_empty() {
        return nothing(service);
    }
    let mut header = vec!["SPLIT", "SERVICE", "BACKEND", "WANTED", "AT PROXIES", "STATE"];
    if wide {
        header.extend(["RULE", "MATCHES", "WEIGHT"]);
    }
    let mut rows = Vec::new();
    for split in &report.splits {
        for (index, backend) in split.backends.iter().enumerate() {
            let first = |text: String| Cell::plain(if index == 0 { text } else { String::new() });
            let mut row = vec![
                first(split.title()),
                first(split.services.join(", ")),
                Cell::plain(&backend.backend),
                Cell::plain(&backend.share),
                Cell::plain(held(split, &backend.backend)),
                if index == 0 { state(split) } else { Cell::plain("") },
            ];
            if wide {
                row.extend([
                    first(split.field.clone()),
                    first(split.conditions.join(" or ")),
                    Cell::plain(backend.weight.to_string()),
                ]);
            }
            rows.push(row);
        }
    }
    table::render(&header, &rows, colour)
}

/// `10 % at 2, 0 % at 1`.
fn held(split: &SplitReport, backend: &str) -> String {
    let mut found: Vec<(String, u32)> = Vec::new();
    for held in &split.held {
        let is_this = |name: &str| {
            name == backend || name.strip_prefix(backend).is_some_and(|rest| rest.starts_with(':'))
        };
        let share = held.shares.iter().find(|share| is_this(&share.backend));
        let share = share.map_or_else(|| "0 %".to_owned(), |share| share.share.clone());
        match found.iter_mut().find(|(known, _)| *known == share) {
            Some((_, proxies)) => *proxies += held.proxies,
            None => found.push((share, held.proxies)),
        }
    }
    match found.as_slice() {
        [] => "none".to_owned(),
        [(share, _)] => share.clone(),
        several => {
            let several = several.iter().map(|(share, proxies)| format!("{share} at {proxies}"));
            several.collect::<Vec<_>>().join(", ")
        }
    }
}

fn state(split: &SplitReport) -> Cell {
    let counts = format!("{} of {} proxies", split.acknowledged, split.proxies);
    match split.state {
        "acknowledged" => Cell::good(format!("acknowledged by {counts}")),
        "pending" => Cell::plain(format!("acknowledged by {counts}")),
        "unused" => Cell::plain("no proxy has asked for it"),
        "refused" => Cell::bad(format!("refused; acknowledged by {counts}")),
        _ => Cell::bad("without effect: see `meshctl routes`"),
    }
}

fn nothing(service: Option<&str>) -> String {
    let what = match service {
        Some(service) => format!("nothing splits service {service}: it sends to its own endpoints"),
        None => "nothing is split: no TrafficSplit, and no route with several backends".to_owned(),
    };
    format!(
        "{what}\ntry  a TrafficSplit, or an HTTPRoute with several backendRefs: docs/routes.md\n"
    )
}
