//! The tables, as Markdown and as plain text.

use std::fmt::Write as _;

use crate::figure::Figure;
use crate::results::Results;
use crate::scenario::Scenario;
use crate::system::System;

/// What goes into the README.
pub fn markdown(results: &Results) -> String {
    let mut text = conditions(results);
    text.push_str("\n### Figures\n\n");
    text.push_str(&table(results, "**"));
    text.push_str("\nMedians. Bold is the best of the three proxies. ");
    text.push_str("CPU is of the named proxy alone, in user and kernel; `-` was not measured.\n");
    text.push_str("\n### Ratios\n\nHeddle's figure divided by the other's, as in `ratios` of `results/latest.json`: ");
    text.push_str("medians of the ratios of each round.\n\n");
    text.push_str(&ratios(results));
    text.push_str("\n### Where Heddle loses\n\n");
    text.push_str(&losses(results));
    text
}

/// What a terminal shows.
pub fn text(results: &Results) -> String {
    format!("{}\nwhere Heddle loses:\n{}", table(results, ""), losses(results))
}

fn conditions(results: &Results) -> String {
    let Results { machine, versions, rounds, noise, .. } = results;
    let Results { measured_seconds, measured_seconds_at_rate, .. } = results;
    let version = |name: &str| versions.get(name).map_or("?", String::as_str);
    let loads: Vec<String> = noise.iter().map(|it| format!("{:.1}", it.load_average)).collect();
    let steal = noise.last().map(|it| it.steal_percent).unwrap_or_default();
    let mut text = format!(
        "{}: {} with {} cores{}, {} MB, Linux {}. Heddle {}, Envoy {}, HAProxy {}, {}. {rounds} rounds, \
         {measured_seconds} s each, at a fixed rate {measured_seconds_at_rate} s. Load average before each round and \
         at the end: {}; stolen by the hypervisor: {steal:.1} %.\n",
        results.date,
        machine.cpu,
        machine.cores,
        if machine.is_virtual { " (virtual)" } else { "" },
        machine.memory_mb,
        machine.kernel,
        version("heddle"),
        version("envoy"),
        version("haproxy"),
        version("rustc"),
        loads.join(", "),
    );
    for (system, reason) in &results.absent {
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n**{} was absent**: {reason}.", system.title());
    }
    for failure in &results.failures {
        let _ = writeln!(text, "\nFailed: {failure}.");
    }
    text
}

fn table(results: &Results, bold: &str) -> String {
    let mut text = String::from("| |");
    for system in System::ALL {
        let _ = write!(text, " {} |", system.title());
    }
    text.push_str("\n|---|---:|---:|---:|---:|---:|\n");
    for scenario in Scenario::ALL {
        if results.medians.contains_key(&scenario) {
            let _ = writeln!(text, "| {bold}{}{bold} | | | | | |", scenario.title());
            for figure in scenario.figures() {
                text.push_str(&row(results, scenario, *figure, bold));
            }
            if scenario == Scenario::Http1Rate1000 {
                text.push_str(&added(results, Figure::P50Us, "added p50, µs"));
                text.push_str(&added(results, Figure::P99Us, "added p99, µs"));
            }
        }
    }
    text
}

fn row(results: &Results, scenario: Scenario, figure: Figure, bold: &str) -> String {
    let best = best(results, scenario, figure);
    let mut text = format!("| {} |", figure.title());
    for system in System::ALL {
        let mark = if best == Some(system) { bold } else { "" };
        let _ = match results.median(scenario, system, figure) {
            Some(value) => write!(text, " {mark}{}{mark} |", number(value)),
            None => write!(text, " - |"),
        };
    }
    text.push('\n');
    text
}

/// What a system adds to the latency without a mesh.
fn added(results: &Results, figure: Figure, title: &str) -> String {
    let latency = |system| results.median(Scenario::Http1Rate1000, system, figure);
    let mut text = format!("| {title} |");
    for system in System::ALL {
        let added =
            latency(system).zip(latency(System::NoMesh)).map(|(with, without)| with - without);
        let _ = match added.filter(|_| system.has_proxies()) {
            Some(added) => write!(text, " {} |", number(added)),
            None => write!(text, " - |"),
        };
    }
    text.push('\n');
    text
}

fn ratios(results: &Results) -> String {
    let others = [System::Envoy, System::Haproxy, System::BareLoop, System::NoMesh];
    let mut text =
        String::from("| | Envoy | HAProxy | bare loop | no mesh |\n|---|---:|---:|---:|---:|\n");
    let mut names: Vec<&str> =
        results.ratios.keys().filter_map(|name| Some(name.split_once("_vs_")?.0)).collect();
    names.dedup();
    for name in names {
        let _ = write!(text, "| `{name}` |");
        for other in others {
            let ratio = results.ratios.get(&format!("{name}_vs_{}", other.name()));
            let _ = match ratio {
                Some(ratio) => write!(text, " {ratio:.2} |"),
                None => write!(text, " - |"),
            };
        }
        text.push('\n');
    }
    text
}

/// Every figure in which another proxy is clearly better.
fn losses(results: &Results) -> String {
    let mut text = String::new();
    for scenario in Scenario::ALL {
        for figure in scenario.figures() {
            let Some(heddle) = results.median(scenario, System::Heddle, *figure) else { continue };
            let better = [System::Envoy, System::Haproxy].into_iter().filter_map(|other| {
                let value = results.median(scenario, other, *figure)?;
                let factor = if figure.more_is_better() { value / heddle } else { heddle / value };
                (factor > CLEARLY)
                    .then(|| format!("{} {} ({factor:.1}×)", other.title(), number(value)))
            });
            let better: Vec<String> = better.collect();
            if !better.is_empty() {
                let _ = writeln!(
                    text,
                    "- {}: {}: {}, where Heddle has {}",
                    scenario.title(),
                    figure.title(),
                    better.join(", "),
                    number(heddle)
                );
            }
        }
    }
    if text.is_empty() { "Nowhere in this run.\n".to_owned() } else { text }
}

/// The best of the proxies; the bare loop is none.
fn best(results: &Results, scenario: Scenario, figure: Figure) -> Option<System> {
    let sign = if figure.more_is_better() { -1.0 } else { 1.0 };
    [System::Heddle, System::Envoy, System::Haproxy]
        .into_iter()
        .filter_map(|system| Some((system, sign * results.median(scenario, system, figure)?)))
        .min_by(|(_, one), (_, other)| one.total_cmp(other))
        .map(|(system, _)| system)
}

/// With three digits that say something, and thousands apart.
pub fn number(value: f64) -> String {
    let decimals = match value.abs() {
        small if small < 9.995 => 2,
        medium if medium < 99.95 => 1,
        _large => 0,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        let left = whole.len() - index;
        if index > 0 && left % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if rest.is_empty() { grouped } else { format!("{grouped}.{rest}") }
}

/// Five percent: less is noise.
const CLEARLY: f64 = 1.05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Samples;

    #[test]
    fn numbers_keep_three_digits_that_say_something() {
        for (value, expected) in [
            (0.714, "0.71"),
            (12.34, "12.3"),
            (99.96, "100"),
            (123.4, "123"),
            (123_456.7, "123,457"),
            (1_234_567.0, "1,234,567"),
            (-123.4, "-123"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn losses_are_named_and_wins_are_not() {
        let mut samples = Samples::default();
        for (system, per_second, cpu) in
            [(System::Heddle, 10_000.0, 30.0), (System::Envoy, 20_000.0, 60.0)]
        {
            samples.add(0, (Scenario::Http1C64, system, Figure::PerSecond), per_second);
            samples.add(0, (Scenario::Http1C64, system, Figure::ClientCpuUs), cpu);
        }
        let results = Results { medians: samples.medians(), ..Results::default() };
        let text = losses(&results);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains("per second: Envoy 20,000 (2.0×), where Heddle has 10,000"),
            "{text}"
        );
        let drawn = markdown(&results);
        assert!(drawn.contains("| per second | - | 10,000 | **20,000** | - | - |"), "{drawn}");
    }
}
