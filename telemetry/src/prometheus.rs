//! Reads metrics in the text format of Prometheus, and of OpenMetrics, which adds little. Pure.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::BTreeMap;
use std::fmt;

/// One line: a name, labels, a value. Timestamps and exemplars are read over.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// With its suffix, such as `_total` or `_bucket`.
    pub name: String,
    /// By name.
    pub labels: BTreeMap<String, String>,
    /// May be infinite or not a number.
    pub value: f64,
}

impl Sample {
    /// A label's value; empty when there is none, which Prometheus holds to be the same.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// A line that is neither empty, nor a comment, nor a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidMetrics {
    /// From 1.
    pub line: usize,
    /// What was wanted there.
    pub wanted: &'static str,
}

impl fmt::Display for InvalidMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {} of the metrics is no sample: want {}", self.line, self.wanted)
    }
}

impl std::error::Error for InvalidMetrics {}

/// Reads all samples, in order.
pub fn parse(text: &str) -> Result<Vec<Sample>, InvalidMetrics> {
    let mut samples = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let sample =
            parse_line(line).map_err(|wanted| InvalidMetrics { line: index + 1, wanted })?;
        samples.push(sample);
    }
    Ok(samples)
}

/// All metrics of one name, but for suffixes.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Without the suffixes of its samples.
    pub name: String,
    /// For people; empty if there is none.
    pub help: String,
    /// What it is.
    pub kind: Kind,
    /// In order.
    pub samples: Vec<Sample>,
}

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Is so now.
    Gauge,
    /// How values are spread.
    Histogram,
    /// Something else, or not said.
    Other,
}

/// Reads all families that have a type, in order.
pub fn families(text: &str) -> Result<Vec<Family>, InvalidMetrics> {
    let mut families: Vec<Family> = Vec::new();
    let mut help = ("", "");
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(about) = line.strip_prefix("# HELP ") {
            help = about.split_once(' ').unwrap_or((about, ""));
        } else if let Some(about) = line.strip_prefix("# TYPE ") {
            let (name, kind) = about.split_once(' ').unwrap_or((about, ""));
            let kind = match kind {
                "counter" => Kind::Counter,
                "gauge" => Kind::Gauge,
                "histogram" => Kind::Histogram,
                _ => Kind::Other,
            };
            let help = if help.0 == name { help.1.to_owned() } else { String::new() };
            families.push(Family { name: name.to_owned(), help, kind, samples: Vec::new() });
        } else if !line.is_empty() && !line.starts_with('#') {
            let sample =
                parse_line(line).map_err(|wanted| InvalidMetrics { line: index + 1, wanted })?;
            let is_its = |family: &&mut Family| {
                sample.name.strip_prefix(&family.name).is_some_and(|suffix| {
                    matches!(suffix, "" | "_total" | "_sum" | "_count" | "_bucket" | "_created")
                })
            };
            if let Some(family) = families.last_mut().filter(is_its) {
                family.samples.push(sample);
            }
        }
    }
    Ok(families)
}

fn parse_line(line: &str) -> Result<Sample, &'static str> {
    let end = line.find(|c: char| c == '{' || c.is_whitespace()).ok_or("a value after the name")?;
    let (name, mut rest) = line.split_at(end);
    let first = name.chars().next().ok_or("a name")?;
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if first.is_ascii_digit() || !name.chars().all(good) {
        return Err("a name of letters, digits, _ and :");
    }
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = parse_labels(inside, &mut labels)?;
    }
    // After the value there may be a timestamp, and an exemplar after " # ".
    let value = rest.split_whitespace().next().ok_or("a value")?;
    let value = parse_value(value).ok_or("a number")?;
    Ok(Sample { name: name.to_owned(), labels, value })
}

fn parse_value(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        text => text.parse().ok(),
    }
}

/// Reads labels up to the closing brace; returns what comes after it.
fn parse_labels<'a>(
    inside: &'a str,
    labels: &mut BTreeMap<String, String>,
) -> Result<&'a str, &'static str> {
    let mut rest = inside.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (name, after) = rest.split_once('=').ok_or("label=\"value\"")?;
        let quoted = after.trim_start().strip_prefix('"').ok_or("a value in quotes")?;
        let (value, after) = parse_quoted(quoted)?;
        labels.insert(name.trim().to_owned(), value);
        rest = after.trim_start();
        if let Some(after) = rest.strip_prefix(',') {
            rest = after.trim_start();
        } else if !rest.starts_with('}') {
            return Err("a comma or a closing brace");
        }
    }
}

/// Reads up to the closing quote; returns what comes after it.
fn parse_quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => return Ok((value, rest.as_str())),
            '\\' => match rest.next() {
                Some('n') => value.push('\n'),
                Some(c @ ('"' | '\\')) => value.push(c),
                Some(_) | None => return Err("\\n, \\\" or \\\\ after a backslash"),
            },
            c => value.push(c),
        }
    }
    Err("a closing quote")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(name: &str, labels: &[(&str, &str)], value: f64) -> Sample {
        let labels =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Sample { name: name.to_owned(), labels, value }
    }

    #[test]
    fn samples_are_read_from_what_proxies_write() {
        let text = "\
# HELP heddle_http_requests_total Requests.
# TYPE heddle_http_requests_total counter
heddle_http_requests_total{direction=\"outbound\",service=\"default/api:8080\",status=\"200\",tls=\"mtls\"} 12

heddle_config_version 7
heddle_http_request_duration_seconds_bucket{le=\"+Inf\"} 3 # {trace_id=\"a b\"} 0.5 1.7
node_time_seconds 1.5e9 1700000000000
odd{ a = \"x, y}\" , b=\"q\\\"\\\\\\n\", } +Inf
# EOF
";
        let samples = parse(text).unwrap();
        let labels = [
            ("direction", "outbound"),
            ("service", "default/api:8080"),
            ("status", "200"),
            ("tls", "mtls"),
        ];
        assert_eq!(
            samples,
            [
                sample("heddle_http_requests_total", &labels, 12.0),
                sample("heddle_config_version", &[], 7.0),
                sample("heddle_http_request_duration_seconds_bucket", &[("le", "+Inf")], 3.0),
                sample("node_time_seconds", &[], 1.5e9),
                sample("odd", &[("a", "x, y}"), ("b", "q\"\\\n")], f64::INFINITY),
            ]
        );
    }

    #[test]
    fn a_bad_line_is_named_with_what_was_wanted() {
        for (text, line, wanted) in [
            ("a", 1, "a value after the name"),
            ("a 1\nb{x=\"1\"", 2, "a comma or a closing brace"),
            ("a{x=1} 1", 1, "a value in quotes"),
            ("a{x=\"1} 1", 1, "a closing quote"),
            ("a{x=\"\\t\"} 1", 1, "\\n, \\\" or \\\\ after a backslash"),
            ("a{x} 1", 1, "label=\"value\""),
            ("a{} one", 1, "a number"),
            ("a{}", 1, "a value"),
            ("1a 1", 1, "a name of letters, digits, _ and :"),
            ("<html> 1", 1, "a name of letters, digits, _ and :"),
        ] {
            assert_eq!(parse(text), Err(InvalidMetrics { line, wanted }), "case: {text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            name in "[a-z_:][a-z0-9_:]{0,10}",
            labels in proptest::collection::btree_map("[a-z_]{1,8}", any::<String>(), 0..4),
            value in -1e12..1e12_f64,
        ) {
            // A line end inside a value is escaped; other ends of line are not the format's.
            let escape = |value: &str| {
                value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
            };
            let inside: Vec<_> =
                labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
            let text = format!("{name}{{{}}} {value}\n", inside.join(","));
            let read = parse(&text).unwrap();
            prop_assert_eq!(read, vec![Sample { name, labels, value }]);
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = parse(&text);
        }
    }
}
