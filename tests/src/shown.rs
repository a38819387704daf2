//! What meshctl shows a person, so that it can be held against a snapshot: numbers that vary are masked, and nothing
//! else. The rule:
//!
//! - In a table, the cells of the columns that are named as varying have each number, with its unit, as `#`: `4.2ms` and
//!   `1.1s` are both `#`. A dash stays a dash.
//! - A line of blocks is `~`, one of nothing but dots is `.`: whether anything failed is seen.
//! - Cells are parted by ` | `, since how wide a column is varies with its numbers.
//! - In text, addresses of the local mesh are `ADDRESS`, versions of the configuration `version #`, serial numbers
//!   `NUMBER`, times of day `TIME`, how long something took `#ms`, and times such as `23 h` are `# TIME`; two and more spaces are two.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// A table, with these columns masked.
pub fn table(text: &str, varying: &[&str]) -> String {
    let mut lines = text.lines();
    let header: Vec<char> = lines.next().unwrap_or_default().chars().collect();
    let columns = columns(&header);
    let names: Vec<String> = columns.iter().map(|range| cell(&header, range)).collect();
    let mut masked = vec![names.join(" | ")];
    for line in lines {
        let line: Vec<char> = line.chars().collect();
        let cells = columns.iter().zip(&names).map(|(range, name)| {
            let cell = cell(&line, range);
            if varying.contains(&name.as_str()) { number(&cell) } else { sparks(&cell) }
        });
        masked.push(cells.collect::<Vec<_>>().join(" | ").trim_end().to_owned());
    }
    masked.join("\n")
}

/// Text in sentences.
pub fn prose(text: &str) -> String {
    let mut masked = text.to_owned();
    for (pattern, mask) in PROSE.iter() {
        masked = pattern.replace_all(&masked, *mask).into_owned();
    }
    let lines = masked.lines().map(str::trim_end);
    lines.collect::<Vec<_>>().join("\n")
}

/// From where a name begins to where the next one does; the last one has no end.
fn columns(header: &[char]) -> Vec<Range<usize>> {
    let is_begin = |place: &usize| {
        let is_name = header.get(*place).is_some_and(|letter| *letter != ' ');
        is_name && (*place == 0 || header.get(place.saturating_sub(2)..*place) == Some(&[' ', ' ']))
    };
    let begins: Vec<usize> = (0..header.len()).filter(is_begin).collect();
    let ends = begins.iter().skip(1).copied().chain([usize::MAX]);
    begins.iter().copied().zip(ends).map(|(begin, end)| begin..end).collect()
}

fn cell(line: &[char], range: &Range<usize>) -> String {
    let end = range.end.min(line.len());
    let cell: String = line.get(range.start.min(end)..end).unwrap_or_default().iter().collect();
    cell.trim().to_owned()
}

fn number(cell: &str) -> String {
    sparks(&NUMBER.replace_all(cell, "#"))
}

fn sparks(cell: &str) -> String {
    let is = |allowed: &str| !cell.is_empty() && cell.chars().all(|one| allowed.contains(one));
    match (is("· "), is("▁▂▃▄▅▆▇█· ")) {
        (true, _) => ".".to_owned(),
        (false, true) => "~".to_owned(),
        (false, false) => cell.to_owned(),
    }
}

static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"\d+(\.\d+)?(ms|s|B|KiB|MiB|GiB)?"));
static PROSE: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    vec![
        (pattern(r"\b10\.\d+\.\d+\.\d+|\bfd[0-9a-f]*:[0-9a-f:]+"), "ADDRESS"),
        (pattern(r"\b\d\d:\d\d:\d\d\.\d{3}\b"), "TIME"),
        (pattern(r"\b\d+(\.\d+)?m?s\b"), "#ms"),
        (pattern(r"version \d+"), "version #"),
        (pattern(r"\b[0-9a-f]{32}\b"), "NUMBER"),
        (pattern(r"\b\d+ (years|year|days|day|d|h|min|s)\b"), "# TIME"),
        (pattern(r" {2,}"), "  "),
    ]
});

#[expect(clippy::unwrap_used, reason = "written above")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_varying_columns_are_masked_and_nothing_else() {
        let shown = "\
NAME            MESHED  SUCCESS   RPS    P50    LAST_5M  FAILED
deployment/api  2/2     100.00 %  100.2  4.2ms   ▁▂█·    ····
pod/client      1/1     -         -      1.1s    ····    ·▁··
";
        assert_eq!(
            table(shown, &["RPS", "P50"]),
            "NAME | MESHED | SUCCESS | RPS | P50 | LAST_5M | FAILED\n\
             deployment/api | 2/2 | 100.00 % | # | # | ~ | .\n\
             pod/client | 1/1 | - | - | # | . | ~"
        );
    }

    #[test]
    fn text_keeps_all_but_addresses_versions_and_times() {
        for (shown, expected) in [
            ("api-v1  10.42.0.7:8080   yes  ", "api-v1  ADDRESS:8080  yes"),
            ("15:04:05.439  GET /  200  0.82ms", "TIME  GET /  200  #ms"),
            ("15:04:05.439  GET /  200  1.50s", "TIME  GET /  200  #ms"),
            ("CN=Heddle issuer 59101814171c92d0e6b84f028d65aee0", "CN=Heddle issuer NUMBER"),
            ("version 12, which has 23 h left", "version #, which has # TIME left"),
            ("90 % of 100 to v1", "90 % of 100 to v1"),
        ] {
            assert_eq!(prose(shown), expected);
        }
    }
}
