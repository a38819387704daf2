//! What is behind a route: endpoints, policies, and how connections to them are secured.

use heddle_model::destination::EndpointDestination;
use heddle_model::endpoint::{self, ExpectedPeer};
use heddle_model::names::ServicePort;
use heddle_model::policy::BackendPolicy;
use heddle_proto::admin::{BackingFacts, EndpointFacts, PodFacts};
use heddle_proto::discovery::{self, InboundMode};
use heddle_report::words;

use super::{Asked, Ended, Good, Not, Shares, policy, read, title};
use crate::failure::Failure;
use crate::why::report::{Backend, Endpoint, WhyReport};

/// A call to shares of backends.
pub(super) fn shares(
    asked: &Asked<'_>,
    caller: &PodFacts,
    shares: Shares,
    report: &mut WhyReport,
) -> Result<Ended, Failure> {
    let weights = shares.backends.iter().map(|(_, weight)| u64::from(*weight));
    let whole = weights.sum::<u64>() + u64::from(shares.missing_weight);
    let mut losses = shares.losses;
    if shares.missing_weight > 0 {
        let share = words::percent(u64::from(shares.missing_weight), whole);
        let why = format!("{share} go to a backend that does not exist");
        report.note("backend", String::new(), why.clone());
        losses.push(("no_backend", why));
    }
    let mut good = Vec::new();
    for (port, weight) in &shares.backends {
        let share = words::percent(u64::from(*weight), whole);
        let backing = backing(asked, port);
        let backend = backend(asked, caller, (port, *weight, share), backing)?;
        tell(&backend, backing.is_some_and(|backing| backing.last_resort), report);
        if *weight > 0 {
            match backend.fails {
                None => good.push(backend.clone()),
                Some(word) => {
                    losses.push((word, format!("{} go to {port}: {}", backend.share, why(word))))
                }
            }
        }
        if let Some(backing) = backing.filter(|_| *weight > 0) {
            tell_policy(backing, caller.meshed, report)?;
        }
        report.backends.push(backend);
    }
    Ok(ended(caller, &good, &losses, report))
}

/// A call to one pod.
pub(super) fn endpoint(
    asked: &Asked<'_>,
    caller: &PodFacts,
    called: &EndpointDestination,
    report: &mut WhyReport,
) -> Ended {
    let says = "a pod is called by its own address: no route and no balancing is between";
    report.good("route", String::new(), says.to_owned());
    let pod = asked.facts.pod.as_ref();
    let endpoint = told(caller, (&called.endpoint, true), pod);
    let name = called.endpoint.address.to_string();
    let one = one(name, endpoint, asked.now);
    tell(&one, false, report);
    report.backends.push(one.clone());
    match one.fails {
        None => ended(caller, std::slice::from_ref(&one), &[], report),
        Some(word) => ended(caller, &[], &[(word, why(word).to_owned())], report),
    }
}

/// A call to an address that is none of the mesh's: outside, or a pod without a proxy.
pub(super) fn passed_through(
    asked: &Asked<'_>,
    caller: &PodFacts,
    report: &mut WhyReport,
) -> Ended {
    report.tls = Some("plaintext");
    let why = match &asked.facts.pod {
        Some(pod) if !pod.meshed => format!("pod {} has no proxy", title(pod)),
        Some(pod) => format!("pod {} is not called by this address", title(pod)),
        None => "the address is none of a service or a pod with a proxy".to_owned(),
    };
    let object = asked.facts.pod.as_ref().map(|pod| format!("Pod {}", title(pod)));
    let by = if caller.meshed { "the caller's proxy adds nothing" } else { "no proxy is involved" };
    report.note("tls", object.unwrap_or_default(), format!("plain text: {why}; {by}"));
    Ok(Good::PassedThrough(why))
}

fn backing<'a>(asked: &Asked<'a>, port: &ServicePort) -> Option<&'a BackingFacts> {
    let wire = discovery::ServicePort::from(port);
    asked.facts.backings.iter().find(|backing| backing.port.as_ref() == Some(&wire))
}

fn backend(
    asked: &Asked<'_>,
    caller: &PodFacts,
    (port, weight, share): (&ServicePort, u32, String),
    backing: Option<&BackingFacts>,
) -> Result<Backend, Failure> {
    let mut endpoints = Vec::new();
    for facts in backing.into_iter().flat_map(|backing| &backing.endpoints) {
        let EndpointFacts { endpoint, ready, pod } = facts;
        let Some(endpoint) = endpoint.clone() else { continue };
        let endpoint = read(endpoint::Endpoint::try_from(endpoint))?;
        endpoints.push(told(caller, (&endpoint, *ready), pod.as_ref()));
    }
    let ready = endpoints.iter().filter(|endpoint| endpoint.ready);
    let fails = match (ready.clone().count(), ready.clone().find_map(|one| refusal(one, asked.now)))
    {
        (0, _) => Some("no_endpoint"),
        (_, Some(word)) => Some(word),
        (_, None) => None,
    };
    let ready = ready.count();
    Ok(Backend { backend: port.to_string(), weight, share, fails, ready, endpoints })
}

fn one(name: String, endpoint: Endpoint, now: i64) -> Backend {
    let fails = refusal(&endpoint, now);
    Backend {
        backend: name,
        weight: 1,
        share: words::percent(1, 1),
        fails,
        ready: 1,
        endpoints: vec![endpoint],
    }
}

/// Why one endpoint refuses; `None`: it does not.
fn refusal(endpoint: &Endpoint, now: i64) -> Option<&'static str> {
    let expired = endpoint.certificate_not_after.is_some_and(|not_after| not_after <= now);
    match endpoint.tls {
        "refused" => Some("no_certificate"),
        "mtls" if expired => Some("tls"),
        _ => None,
    }
}

fn why(word: &str) -> &'static str {
    match word {
        "no_endpoint" => "none of its endpoints is ready",
        "no_certificate" => {
            "its pods serve only callers with a certificate of the mesh (strict), and the caller has none"
        }
        "tls" => "the certificate of a pod's proxy has expired",
        _ => "it fails",
    }
}

fn remedy(word: &str) -> &'static str {
    match word {
        "no_endpoint" => {
            "see why its pods are not ready, and whether the service's selector and targetPort fit them"
        }
        "no_certificate" => {
            "give the caller a proxy (`heddle.dev/inject: enabled` on its pods), or make the pods permissive \
             (`heddle.dev/inbound-mode: permissive`)"
        }
        "tls" => "see why it is not renewed: `meshctl proxy status`, and the proxy's log",
        "no_backend" => "see the route's ResolvedRefs: `meshctl routes`",
        "fault_abort" => "remove the fault from the route, the service or the TrafficPolicy",
        _ => "see docs/errors.md",
    }
}

fn told(
    caller: &PodFacts,
    (endpoint, ready): (&endpoint::Endpoint, bool),
    pod: Option<&PodFacts>,
) -> Endpoint {
    let meshed = pod.is_some_and(|pod| pod.meshed);
    let mode = pod.filter(|pod| pod.meshed).map(|pod| match pod.inbound_mode() {
        InboundMode::Strict => "strict",
        InboundMode::Permissive | InboundMode::Unspecified => "permissive",
    });
    let identity = match (&endpoint.peer, caller.meshed) {
        (ExpectedPeer::Mesh { identity, .. }, true) => Some(identity.to_string()),
        (ExpectedPeer::Mesh { .. }, false) | (ExpectedPeer::Plaintext, _) => None,
    };
    let tls = match (&identity, mode) {
        (Some(_), _) => "mtls",
        (None, Some("strict")) => "refused",
        (None, _) => "plaintext",
    };
    let proxy = pod.filter(|pod| pod.meshed).and_then(|pod| pod.proxy.as_ref());
    Endpoint {
        address: endpoint.address.to_string(),
        pod: pod.map(title).unwrap_or_else(|| endpoint.pod.clone()),
        zone: endpoint.zone.clone(),
        ready,
        meshed,
        inbound_mode: mode,
        tls,
        identity,
        certificate_not_after: proxy.and_then(|proxy| proxy.identity).map(|held| held.not_after),
    }
}

fn tell(backend: &Backend, last_resort: bool, report: &mut WhyReport) {
    let Backend { backend: name, share, fails, ready, endpoints, weight } = backend;
    // A pod that is called by its own address is no service.
    let object = match name.contains('/') {
        true => format!("Service {name}"),
        false => endpoints.first().map(|one| format!("Pod {}", one.pod)).unwrap_or_default(),
    };
    let says = match endpoints.len() {
        0 => format!("{share}, no endpoint"),
        count if last_resort => format!(
            "{share}, none of {count} endpoints ready; {ready} used as a last resort: their nodes are not heard of, and \
             they were ready when they were"
        ),
        count => format!("{share}, {ready} of {count} endpoints ready"),
    };
    match fails {
        Some(word) if *weight > 0 => {
            let not = Not {
                outcome: word,
                why: format!("{says}: {}", why(word)),
                remedy: remedy(word).to_owned(),
            };
            report.fails("backend", object, not);
        }
        Some(_) | None if last_resort => report.note("backend", object, says),
        Some(_) | None => report.good("backend", object, says),
    }
}

fn tell_policy(
    backing: &BackingFacts,
    meshed: bool,
    report: &mut WhyReport,
) -> Result<(), Failure> {
    let origin = backing.policy_origin.clone().map(heddle_model::names::ObjectReference::from);
    let object = origin.map(|origin| origin.to_string()).unwrap_or_default();
    if let Some(policy) = backing.policy.clone().filter(|_| meshed) {
        let policy = read(BackendPolicy::try_from(policy))?;
        for says in policy::of_backend(&policy, object.is_empty()) {
            report.good("policy", object.clone(), says);
        }
    }
    let limits = backing.endpoints.iter().filter_map(|endpoint| endpoint.pod.as_ref());
    let limits = limits.flat_map(|pod| pod.rate_limits.iter().cloned());
    let mut said: Vec<String> = Vec::new();
    for limit in limits {
        let text = policy::rate_limit(&read(heddle_model::policy::RateLimit::try_from(limit))?);
        if !said.contains(&text) {
            said.push(text.clone());
            report.note("policy", object.clone(), text);
        }
    }
    Ok(())
}

/// How all endpoints that may be picked are connected to, and what that makes of the call.
fn ended(
    caller: &PodFacts,
    good: &[Backend],
    losses: &[(&'static str, String)],
    report: &mut WhyReport,
) -> Ended {
    let picked = report.backends.iter().filter(|backend| backend.weight > 0);
    let endpoints: Vec<Endpoint> = picked
        .flat_map(|backend| backend.endpoints.iter().filter(|endpoint| endpoint.ready).cloned())
        .collect();
    report.tls = endpoints.first().map(|first| {
        let alike = endpoints.iter().all(|endpoint| endpoint.tls == first.tls);
        if alike { first.tls } else { "mixed" }
    });
    tell_tls(&endpoints, caller, report);
    let Some((word, _)) = losses.first() else {
        let names: Vec<String> = good
            .iter()
            .map(|backend| match good.len() {
                1 => backend.backend.clone(),
                _ => format!("{} ({})", backend.backend, backend.share),
            })
            .collect();
        let secured = match report.tls {
            Some("mtls") => "over mutual TLS",
            Some("mixed") => "partly over mutual TLS, partly in plain text",
            Some(_) | None => "in plain text",
        };
        return Ok(Good::Served(format!("by {} {secured}", names.join(" or "))));
    };
    let whys: Vec<&str> = losses.iter().map(|(_, why)| why.as_str()).collect();
    let outcome = if good.is_empty() { word } else { "partly" };
    Err(Not { outcome, why: whys.join("; "), remedy: remedy(word).to_owned() })
}

fn tell_tls(endpoints: &[Endpoint], caller: &PodFacts, report: &mut WhyReport) {
    let mut identities: Vec<&str> = Vec::new();
    for identity in endpoints.iter().filter_map(|endpoint| endpoint.identity.as_deref()) {
        if !identities.contains(&identity) {
            identities.push(identity);
        }
    }
    if !identities.is_empty() {
        let expected = identities.join(" or ");
        let says = format!("mutual TLS: {} expects {expected}, in the very pod", title(caller));
        report.good("tls", String::new(), says);
    }
    let plain = |endpoint: &&Endpoint| endpoint.tls == "plaintext";
    if let Some(first) = endpoints.iter().find(plain) {
        let count = endpoints.iter().filter(plain).count();
        let reason = match (caller.meshed, first.meshed) {
            (true, _) => "no proxy is there",
            (false, true) => "the caller has no proxy, and the pod is permissive",
            (false, false) => "neither side has a proxy",
        };
        let says = format!("plain text to {count} of {} endpoints: {reason}", endpoints.len());
        report.note("tls", String::new(), says);
    }
    if endpoints.iter().any(|endpoint| endpoint.tls == "refused") {
        let not = Not {
            outcome: "no_certificate",
            why: format!("refused: {}", why("no_certificate")),
            remedy: remedy("no_certificate").to_owned(),
        };
        report.fails("tls", String::new(), not);
    }
}
