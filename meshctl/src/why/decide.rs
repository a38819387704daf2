//! What follows from the facts: step by step what a call meets, and whether it is served. Pure; which rule a request is
//! of is decided by the proxy's own matcher. The steps before the route are in `decide/place.rs`, the route in
//! `decide/route.rs`, what is behind it in `decide/backends.rs`, policies in words in `decide/policy.rs`.

mod backends;
mod place;
mod policy;
mod route;

use heddle_model::destination::Destination;
use heddle_model::names::{Protocol, ServicePort};
use heddle_proto::admin::{CallFacts, NamedAs, PodFacts};
use http::Request;

use crate::failure::Failure;
use crate::why::question::{Host, Sent};
use crate::why::report::{Issuer, State, Step, WhyReport};

/// What is asked, with the facts that answer it.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    facts: &'a CallFacts,
    host: &'a Host,
    sent: &'a Sent,
    /// Seconds since 1970.
    now: i64,
}

/// Why a call is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Not {
    outcome: &'static str,
    why: String,
    remedy: String,
}

/// How a call that nothing refuses ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Good {
    /// By a backend; in words.
    Served(String),
    /// The mesh has no part in it; in words.
    PassedThrough(String),
    /// By the proxy itself; in words.
    Answered(String),
}

/// What is carried.
#[derive(Clone, Copy, Debug)]
enum Way<'a> {
    Requests(&'a Request<()>),
    /// Encrypted by the application.
    Tls,
    /// Bytes that are not read.
    Bytes,
}

/// Where a call goes: shares of backends, and of what does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shares {
    backends: Vec<(ServicePort, u32)>,
    missing_weight: u32,
    /// Why another part of the calls is not served, as a word and in words.
    losses: Vec<(&'static str, String)>,
}

/// Answers. Fails on what this meshctl cannot read.
pub fn explain(
    facts: &CallFacts,
    host: &Host,
    sent: &Sent,
    now: i64,
) -> Result<WhyReport, Failure> {
    let asked = Asked { facts, host, sent, now };
    let mut report = WhyReport {
        served: false,
        outcome: "",
        verdict: String::new(),
        remedy: None,
        version: facts.version,
        acknowledged: None,
        tls: None,
        issuer: facts
            .issuer
            .clone()
            .map(|issuer| Issuer { subject: issuer.subject, not_after: issuer.not_after }),
        steps: Vec::new(),
        rule: None,
        candidates: Vec::new(),
        backends: Vec::new(),
    };
    let ended = steps(&asked, &mut report)?;
    conclude(&asked, ended, &mut report);
    Ok(report)
}

type Ended = Result<Good, Not>;

fn steps(asked: &Asked<'_>, report: &mut WhyReport) -> Result<Ended, Failure> {
    let caller = match place::caller(asked, report) {
        Ok(caller) => caller,
        Err(not) => return Ok(Err(not)),
    };
    if let Err(not) = place::name(asked, report) {
        return Ok(Err(not));
    }
    if let NamedAs::Outside | NamedAs::External = asked.facts.named_as() {
        return Ok(Ok(Good::PassedThrough("it is none of the cluster's services".to_owned())));
    }
    let destination = match &asked.facts.destination {
        None => return Ok(Err(place::no_address(asked, report))),
        Some(destination) => read(Destination::try_from(destination.clone()))?,
    };
    if let Err(not) = place::service(asked, &destination, report) {
        return Ok(Err(not));
    }
    if caller.meshed {
        place::config(asked, caller, report);
    }
    Ok(match (&destination, caller.meshed) {
        (Destination::Refused { reason }, _) => Err(place::refused(asked, reason, report)),
        (Destination::Endpoint(endpoint), _) => backends::endpoint(asked, caller, endpoint, report),
        (Destination::PassThrough, _) => backends::passed_through(asked, caller, report),
        (Destination::Service(service), false) => {
            route::without_proxy(report);
            let own = Shares { backends: vec![(service.service.clone(), 1)], ..Shares::default() };
            backends::shares(asked, caller, own, report)?
        }
        (Destination::Service(service), true) => {
            let way = way(asked, service.protocol, report);
            match route::find(asked, service, way, report) {
                Err(not) => Err(not),
                Ok(route::Found::Answered(said)) => Ok(Good::Answered(said)),
                Ok(route::Found::Shares(shares)) => {
                    backends::shares(asked, caller, shares, report)?
                }
            }
        }
    })
}

/// What the caller's proxy reads of what is sent.
fn way<'a>(asked: &Asked<'a>, protocol: Protocol, report: &mut WhyReport) -> Way<'a> {
    match (asked.sent, protocol) {
        (Sent::Tls, _) | (Sent::Request { .. }, Protocol::Tls) => Way::Tls,
        (Sent::Request { named, .. }, Protocol::Opaque) => {
            if *named {
                let says =
                    "the bytes of this port are not read: method, path and headers do not count";
                report.note("route", String::new(), says.to_owned());
            }
            Way::Bytes
        }
        (Sent::Request { request, .. }, Protocol::Detect | Protocol::Http1 | Protocol::Http2) => {
            Way::Requests(request)
        }
    }
}

/// The verdict.
fn conclude(asked: &Asked<'_>, ended: Ended, report: &mut WhyReport) {
    let call = call(asked);
    let unsure = match report.acknowledged {
        Some(false) => {
            "; by the newest configuration, which the caller's proxy does not act on yet"
        }
        Some(true) | None => "",
    };
    match ended {
        Ok(good) => {
            report.served = true;
            (report.outcome, report.verdict) = match good {
                Good::Served(how) => ("served", format!("{call} would be served {how}{unsure}")),
                Good::PassedThrough(why) => (
                    "passed_through",
                    format!(
                        "{call} would be passed through unchanged: {why}; whether somebody answers, the mesh cannot tell"
                    ),
                ),
                Good::Answered(how) => (
                    "answered",
                    format!("{call} would be answered by the caller's proxy: {how}{unsure}"),
                ),
            };
        }
        Err(Not { outcome, why, remedy }) => {
            report.outcome = outcome;
            report.verdict = match outcome {
                "partly" => format!("{call} would be served only in part: {why}{unsure}"),
                _ => format!("{call} would not be served: {why} ({outcome}){unsure}"),
            };
            report.remedy = Some(remedy);
        }
    }
}

fn call(asked: &Asked<'_>) -> String {
    let Asked { facts, host, sent, .. } = asked;
    let caller = facts.caller.as_ref().map(title);
    let from = caller.map(|caller| format!(" from {caller}")).unwrap_or_default();
    let port = host.port.map(u32::from).unwrap_or(facts.port);
    let name = if host.name.contains(':') { format!("[{}]", host.name) } else { host.name.clone() };
    let to = if port == 0 { name } else { format!("{name}:{port}") };
    match sent {
        Sent::Request { request, named: true } => {
            format!("{} {}{from} to {to}", request.method(), request.uri())
        }
        Sent::Request { named: false, .. } => format!("a call{from} to {to}"),
        Sent::Tls => format!("a TLS connection{from} to {to}"),
    }
}

/// `namespace/name`.
fn title(pod: &PodFacts) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

/// A newer control plane may say more than this meshctl knows.
fn read<T>(converted: Result<T, heddle_proto::convert::InvalidMessage>) -> Result<T, Failure> {
    converted.map_err(|error| {
        let remedy = "use a meshctl of the control plane's version: see `meshctl check`";
        Failure::new("cannot read what the control plane tells", remedy).because(&error)
    })
}

impl WhyReport {
    fn good(&mut self, step: &'static str, object: String, says: String) {
        self.steps.push(Step { step, state: State::Good, object, says, remedy: None });
    }

    fn note(&mut self, step: &'static str, object: String, says: String) {
        self.steps.push(Step { step, state: State::Note, object, says, remedy: None });
    }

    /// Takes note of the step at which a call ends.
    fn fails(&mut self, step: &'static str, object: String, not: Not) -> Not {
        let (says, remedy) = (not.why.clone(), Some(not.remedy.clone()));
        self.steps.push(Step { step, state: State::Fails, object, says, remedy });
        not
    }
}

#[cfg(test)]
mod tests;
