//! How findings are printed.

use super::finding::{Finding, Level};
use crate::failure::Failure;
use crate::output::{self, Colour, Output};
use crate::table::{self, Cell};

/// Prints them.
pub fn print(
    findings: &[Finding],
    format: Output,
    no_headers: bool,
    colour: Colour,
) -> Result<(), Failure> {
    match format {
        Output::Table => output::print(&text(findings, colour)),
        Output::Wide => output::print(&table::headed(wide(findings, colour), no_headers)),
        Output::Json => output::print_json(&findings),
        Output::Yaml => output::print_yaml(&findings),
        Output::Name => {
            let troubles = findings.iter().filter(|finding| finding.level != Level::Ok);
            let line = |finding: &Finding| {
                format!("{}: {}: {}\n", finding.level.word(), finding.area.title(), finding.message)
            };
            output::print(&troubles.map(line).collect::<String>())
        }
    }
}

/// One line each, with the command that would do.
fn wide(findings: &[Finding], colour: Colour) -> String {
    let row = |finding: &Finding| {
        let word = finding.level.word();
        vec![
            match finding.level {
                Level::Ok => Cell::good(word),
                Level::Warn | Level::Fail => Cell::bad(word),
            },
            Cell::plain(finding.area.title()),
            Cell::plain(&finding.message),
            Cell::plain(finding.command.as_deref().unwrap_or_default()),
        ]
    };
    let rows: Vec<Vec<Cell>> = findings.iter().map(row).collect();
    table::render(&["LEVEL", "AREA", "FOUND", "COMMAND"], &rows, colour)
}

/// Area by area, with what would do below what is not well.
pub fn text(findings: &[Finding], colour: Colour) -> String {
    let mut text = String::new();
    let mut area = None;
    for finding in findings {
        if area != Some(finding.area) {
            let gap = if area.is_some() { "\n" } else { "" };
            text.push_str(&format!("{gap}{}\n", colour.bold(finding.area.title())));
            area = Some(finding.area);
        }
        let word = format!("{:<4}", finding.level.word());
        let word = match finding.level {
            Level::Ok => colour.good(&word),
            Level::Warn | Level::Fail => colour.bad(&word),
        };
        text.push_str(&format!("  {word}  {}\n", finding.message));
        if let Some(hint) = &finding.hint {
            text.push_str(&format!("        {}\n", colour.dim(hint)));
        }
        if let Some(command) = &finding.command {
            text.push_str(&format!("        $ {command}\n"));
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (failed, warned) = (count(Level::Fail), count(Level::Warn));
    let verdict = match (failed, warned) {
        (0, 0) => colour.good("All is well."),
        (0, warned) => format!("Nothing failed; {}.", counted(warned, "warning")),
        (failed, 0) => colour.bad(&format!("{} failed.", counted(failed, "check"))),
        (failed, warned) => {
            let failed = colour.bad(&format!("{} failed", counted(failed, "check")));
            format!("{failed}; {}.", counted(warned, "warning"))
        }
    };
    text.push_str(&format!("\n{verdict}\n"));
    text
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Area;
    use super::*;

    #[test]
    fn a_line_has_all_of_a_finding_but_its_hint() {
        let findings = [
            Finding::ok(Area::Api, "v1.34.4"),
            Finding::fail(Area::Nodes, "old").hint("in words").command("kubectl cordon old"),
        ];
        insta::assert_snapshot!(wide(&findings, Colour::Never), @"
        LEVEL  AREA        FOUND    COMMAND
        ok     API server  v1.34.4
        fail   nodes       old      kubectl cordon old
        ");
    }
}
