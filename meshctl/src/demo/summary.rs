//! What the demo has shown: the JSON for machines, whose fields are stable, a short text for people,
//! and whether anything was lost. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use heddle_report::status::StatusReport;
use schemars::JsonSchema;
use serde::Serialize;

use crate::demo::measure::{CERTIFICATES, SUCCEEDED, count, short_name};
use crate::output::Colour;
use crate::shop::load::report::Report;
use heddle_telemetry::prometheus::Sample;

/// The summary of `meshctl demo --output json`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Summary {
    /// By the load generator's count.
    pub requests: Requests,
    /// Requests of the load generator that its proxy sent over mutual TLS.
    pub over_mtls: u64,
    /// Requests and connections that any proxy of the shop carried without it.
    pub plaintext: u64,
    /// One per share of the canary.
    pub steps: Vec<StepSummary>,
    /// By all proxies.
    pub certificate_renewals: u64,
    /// By the control plane.
    pub certificates_issued: u64,
    /// By all proxies.
    pub config: ConfigSummary,
    /// From the first request to the last answer.
    pub duration_seconds: f64,
    /// Why requests failed; not part of the JSON, told on standard error.
    #[serde(skip)]
    failures: BTreeMap<String, u64>,
}

/// Counts of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Requests {
    /// Begun.
    pub sent: u64,
    /// Answered with 200 and a whole body.
    pub succeeded: u64,
    /// Everything else.
    pub failed: u64,
}

/// What happened at one share of the canary, from when every proxy had acknowledged it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct StepSummary {
    /// The share of v2 that was wanted.
    pub canary_percent: u8,
    /// Answers, with those that failed.
    pub requests: u64,
    /// Answers by version of the api; both are always there.
    pub backends: BTreeMap<String, u64>,
    /// How long was counted.
    pub seconds: f64,
}

/// What became of configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConfigSummary {
    /// Updates that proxies took.
    pub versions_acknowledged: u64,
    /// Updates that proxies refused.
    pub refused: u64,
}

/// Every counter at its highest, by workload: a proxy drops series of what is gone from the mesh.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    highest: BTreeMap<(String, String, BTreeMap<String, String>), f64>,
}

impl Counters {
    /// Adds what a workload's proxy shows now.
    pub fn add(&mut self, workload: &str, samples: Vec<Sample>) {
        for Sample { name, labels, value } in samples {
            let key = (workload.to_owned(), name, labels);
            let highest = self.highest.entry(key).or_insert(value);
            *highest = highest.max(value);
        }
    }

    fn sum(&self, wanted: impl Fn(&str, &str, &dyn Fn(&str) -> String) -> bool) -> u64 {
        let matching = self.highest.iter().filter(|((workload, name, labels), _)| {
            let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
            wanted(workload, name, &label)
        });
        count(matching.map(|(_, value)| value).sum())
    }

    fn over_mtls(&self) -> u64 {
        self.sum(|workload, name, label| {
            workload == "load"
                && name == "heddle_http_requests_total"
                && label("direction") == "outbound"
                && short_name(&label("service")) == "frontend"
                && label("tls") == "mtls"
        })
    }

    /// What comes in at the load is left out: that is meshctl itself, which reads the counts from
    /// outside of the mesh.
    fn plaintext(&self) -> u64 {
        self.sum(|workload, name, label| {
            let counted =
                ["heddle_http_requests_total", "heddle_tcp_connections_total"].contains(&name);
            let from_outside = workload == "load" && label("direction") == "inbound";
            counted && !from_outside && label("tls") == "plaintext"
        })
    }

    /// Each proxy counts its first certificate too, which renews none.
    fn renewals(&self) -> u64 {
        let certificates = self.highest.iter().filter(|((_, name, labels), _)| {
            name == CERTIFICATES && labels.get("outcome").is_some_and(|it| it == SUCCEEDED)
        });
        certificates.map(|(_, value)| count(*value).saturating_sub(1)).sum()
    }
}

impl StepSummary {
    /// The difference of two reports of the load.
    pub fn between(canary_percent: u8, earlier: &Report, later: &Report, seconds: f64) -> Self {
        let ended = |report: &Report| report.succeeded + report.failed;
        let of_version = |version: &str| {
            let at = |report: &Report| report.versions.get(version).copied().unwrap_or_default();
            (version.to_owned(), at(later).saturating_sub(at(earlier)))
        };
        Self {
            canary_percent,
            requests: ended(later).saturating_sub(ended(earlier)),
            backends: ["v1", "v2"].map(of_version).into(),
            seconds,
        }
    }

    fn seen_percent(&self) -> Option<f64> {
        let v2 = self.backends.get("v2").copied().unwrap_or_default();
        let all: u64 = self.backends.values().sum();
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
        (all > 0).then(|| v2 as f64 * 100.0 / all as f64)
    }
}

impl Summary {
    /// From everything that was counted.
    pub fn new(
        load: &Report,
        steps: Vec<StepSummary>,
        counters: &Counters,
        status: &StatusReport,
    ) -> Self {
        let updates =
            |of: fn(&heddle_report::status::Proxy) -> u64| status.proxies.iter().map(of).sum();
        let Report { sent, succeeded, failed, .. } = *load;
        Self {
            requests: Requests { sent, succeeded, failed },
            over_mtls: counters.over_mtls(),
            plaintext: counters.plaintext(),
            steps,
            certificate_renewals: counters.renewals(),
            certificates_issued: status
                .authority
                .as_ref()
                .map_or(0, |authority| authority.certificates_issued),
            config: ConfigSummary {
                versions_acknowledged: updates(|proxy| proxy.acknowledged_updates),
                refused: updates(|proxy| proxy.refused_updates),
            },
            duration_seconds: load.seconds,
            failures: load.failures.clone(),
        }
    }

    /// What was lost, one sentence each; empty when all is well.
    pub fn lost(&self) -> Vec<String> {
        let Requests { sent, succeeded, failed } = self.requests;
        let mut lost = Vec::new();
        if failed > 0 {
            let reasons: Vec<_> =
                self.failures.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
            lost.push(format!("{failed} of {sent} requests failed ({})", reasons.join(", ")));
        }
        if sent != succeeded + failed {
            let missing = sent.abs_diff(succeeded + failed);
            lost.push(format!("{missing} of {sent} requests have no outcome"));
        }
        if sent == 0 {
            lost.push("no request was sent at all".to_owned());
        }
        if self.plaintext > 0 {
            lost.push(format!("{} requests or connections went in plain text", self.plaintext));
        }
        if self.over_mtls < sent {
            lost.push(format!("only {} of {sent} requests went over mutual TLS", self.over_mtls));
        }
        lost
    }

    /// For people.
    pub fn to_text(&self, colour: Colour) -> String {
        let Requests { sent, succeeded, failed } = self.requests;
        let lost = self.lost();
        let verdict = if lost.is_empty() {
            colour.good("nothing was lost")
        } else {
            colour.bad(&lost.join("; "))
        };
        let mut text = format!(
            "{}  {sent} requests in {:.0} s: {succeeded} succeeded, {failed} failed: {verdict}\n",
            colour.bold("shop"),
            self.duration_seconds
        );
        for step in &self.steps {
            let seen =
                step.seen_percent().map_or_else(|| "nothing".to_owned(), |p| format!("{p:.1} %"));
            let _ = writeln!(
                text,
                "      {:>3} % wanted, {seen:>7} seen of {} requests",
                step.canary_percent, step.requests
            );
        }
        let _ = writeln!(
            text,
            "{}  {} requests over mutual TLS, {} in plain text\n\
             \x20     {} certificates issued, {} renewed under way\n\
             \x20     {} updates acknowledged by the proxies, {} refused",
            colour.bold("mesh"),
            self.over_mtls,
            self.plaintext,
            self.certificates_issued,
            self.certificate_renewals,
            self.config.versions_acknowledged,
            self.config.refused,
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_telemetry::prometheus;

    fn report(sent: u64, failed: u64, versions: [u64; 2]) -> Report {
        let failures =
            if failed > 0 { [("status_503".to_owned(), failed)].into() } else { [].into() };
        Report {
            sent,
            succeeded: sent - failed,
            failed,
            failures,
            versions: [("v1".to_owned(), versions[0]), ("v2".to_owned(), versions[1])].into(),
            seconds: 20.5,
            ..Report::default()
        }
    }

    fn counters(text: &str) -> Counters {
        let mut counters = Counters::default();
        counters.add("load", prometheus::parse(text).unwrap());
        counters
    }

    const GOOD: &str = r#"
heddle_http_requests_total{direction="outbound",service="default/frontend:8080",status="200",tls="mtls"} 4000
heddle_http_requests_total{direction="inbound",service="",status="200",tls="plaintext"} 77
heddle_certificate_renewals_total{outcome="succeeded"} 4
heddle_certificate_renewals_total{outcome="failed"} 2
"#;

    fn status() -> StatusReport {
        use heddle_proto::admin;
        let proxy =
            admin::Proxy { acknowledged_updates: 20, refused_updates: 0, ..Default::default() };
        StatusReport::from(admin::Status {
            proxies: vec![proxy.clone(), proxy],
            authority: Some(admin::Authority { certificates_issued: 8, ..Default::default() }),
            ..Default::default()
        })
    }

    fn summary() -> Summary {
        let steps = vec![
            StepSummary::between(0, &report(0, 0, [0, 0]), &report(1000, 0, [1000, 0]), 5.0),
            StepSummary::between(
                10,
                &report(1000, 0, [1000, 0]),
                &report(2000, 0, [1899, 101]),
                5.0,
            ),
        ];
        Summary::new(&report(4000, 0, [2400, 1600]), steps, &counters(GOOD), &status())
    }

    #[test]
    fn the_summary_for_machines_has_stable_fields() {
        assert_eq!(summary().lost(), Vec::<String>::new());
        insta::assert_json_snapshot!(summary());
    }

    #[test]
    fn the_summary_for_people_is_short() {
        insta::assert_snapshot!(summary().to_text(Colour::Never));
    }

    #[test]
    fn whatever_is_lost_is_said() {
        let plaintext = GOOD.replace("load", "x").to_owned()
            + "heddle_tcp_connections_total{direction=\"outbound\",tls=\"plaintext\"} 2\n";
        let unfinished = Report { in_flight: 1, succeeded: 3999, ..report(4000, 0, [0, 0]) };
        for (case, load, text, expected) in [
            ("failed", report(4000, 3, [0, 0]), GOOD, "3 of 4000 requests failed (status_503: 3)"),
            ("unfinished", unfinished, GOOD, "1 of 4000 requests have no outcome"),
            ("nothing", report(0, 0, [0, 0]), GOOD, "no request was sent at all"),
            (
                "plain",
                report(4000, 0, [0, 0]),
                plaintext.as_str(),
                "2 requests or connections went in plain text",
            ),
            (
                "beside",
                report(4001, 0, [0, 0]),
                GOOD,
                "only 4000 of 4001 requests went over mutual TLS",
            ),
        ] {
            let lost = Summary::new(&load, vec![], &counters(text), &status()).lost();
            assert_eq!(lost, [expected], "case: {case}");
        }
    }

    #[test]
    fn a_series_that_a_proxy_has_dropped_still_counts() {
        let mut counters = counters(GOOD);
        counters.add("load", vec![]);
        counters.add("load", prometheus::parse(&GOOD.replace("4000", "4100")).unwrap());
        assert_eq!(counters.over_mtls(), 4100);
    }
}
