//! How findings are printed.

use super::arguments::CheckFormat;
use super::finding::{Finding, Level};
use crate::failure::Failure;
use crate::output::{self, Colour};

/// Prints them.
pub fn print(findings: &[Finding], format: CheckFormat, colour: Colour) -> Result<(), Failure> {
    match format {
        CheckFormat::Table => output::print(&text(findings, colour)),
        CheckFormat::Json => output::print_json(&findings),
        CheckFormat::Yaml => output::print_yaml(&findings),
        CheckFormat::Name => {
            let troubles = findings.iter().filter(|finding| finding.level != Level::Ok);
            let line = |finding: &Finding| {
                format!("{}: {}: {}\n", finding.level.word(), finding.area.title(), finding.message)
            };
            output::print(&troubles.map(line).collect::<String>())
        }
    }
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
