//! Which rule of all candidates a call follows. The matcher is the proxy's own.

use heddle_matcher::condition::Condition;
use heddle_matcher::host;
use heddle_model::destination::ServiceDestination;
use heddle_model::filter::{HttpFilter, Redirect};
use heddle_model::names::ServicePort;
use heddle_model::route::{ConnectionRule, HttpRule, RuleOrigin};
use heddle_report::words;
use heddle_runtime::duration;
use http::Request;

use super::{Asked, Not, Shares, Way};
use crate::why::report::{Candidate, Rule, WhyReport};

/// Where a rule sends a call.
pub(super) enum Found {
    Shares(Shares),
    /// The proxy answers by itself; in words.
    Answered(String),
}

/// The caller has no proxy: the node's own balancing sends it to the service's own endpoints.
pub(super) fn without_proxy(report: &mut WhyReport) {
    let says =
        "none is followed: the caller has no proxy, and the node picks an endpoint of the service";
    report.note("route", String::new(), says.to_owned());
}

pub(super) fn find(
    asked: &Asked<'_>,
    service: &ServiceDestination,
    way: Way<'_>,
    report: &mut WhyReport,
) -> Result<Found, Not> {
    match way {
        Way::Requests(request) => of_request(service, request, report),
        Way::Bytes => connection(&service.service, &service.connections, "connections", report),
        Way::Tls if service.tls_rules.is_empty() => {
            connection(&service.service, &service.connections, "connections", report)
        }
        Way::Tls => {
            let name = asked.host.name.as_str();
            let rule =
                service.tls_rules.iter().find(|rule| host::is_named(&rule.hostnames, Some(name)));
            match rule {
                Some(rule) => {
                    let hosts: Vec<String> = rule.hostnames.iter().map(words::hostname).collect();
                    let hosts = if hosts.is_empty() { "*".to_owned() } else { hosts.join(" or ") };
                    connection(&service.service, &rule.connections, &hosts, report)
                }
                None => {
                    let not = Not {
                        outcome: "no_tls_route",
                        why: format!("no TLSRoute of service {} is for {name}", service.service),
                        remedy: "add the name to the hostnames of a TLSRoute".to_owned(),
                    };
                    Err(report.fails("route", String::new(), not))
                }
            }
        }
    }
}

fn of_request(
    service: &ServiceDestination,
    request: &Request<()>,
    report: &mut WhyReport,
) -> Result<Found, Not> {
    let mut winner: Option<(usize, &HttpRule)> = None;
    for (index, rule) in service.http_rules.iter().enumerate() {
        let (object, field) = place(&rule.origin);
        let condition = Condition::compile(&rule.hostnames, &rule.matches).map_err(|error| {
            let not = Not {
                outcome: "refused",
                why: format!("no proxy can use {object} {field}: {error}"),
                remedy: "mend the route; proxies go on with what they had".to_owned(),
            };
            report.fails("route", object.clone(), not)
        })?;
        let verdict = match (condition.holds(request), condition.is_for_host(request), &winner) {
            (true, _, None) => {
                winner = Some((index, rule));
                "wins"
            }
            (true, _, Some(_)) => "holds",
            (false, true, _) => "does_not_hold",
            (false, false, _) => "other_host",
        };
        report.candidates.push(Candidate { object, field, condition: condition_of(rule), verdict });
    }
    let Some((index, rule)) = winner else {
        let not = Not {
            outcome: "no_route",
            why: format!(
                "none of the {} rules of service {} is for it, so that it is answered with 404",
                service.http_rules.len(),
                service.service
            ),
            remedy:
                "add a rule that is for it, or one for all others; `--output wide` lists the rules"
                    .to_owned(),
        };
        return Err(report.fails("route", String::new(), not));
    };
    let (object, field) = place(&rule.origin);
    let filters: Vec<String> = rule.filters.iter().map(words::filter).collect();
    let condition = condition_of(rule);
    let says = match rule.origin {
        RuleOrigin::ServiceDefault => {
            "no route is attached: the service's own endpoints".to_owned()
        }
        RuleOrigin::Object { .. } => {
            format!("{field} wins, rule {} of {}: {condition}", index + 1, service.http_rules.len())
        }
    };
    report.good("route", object.clone(), says);
    for said in filters.iter().cloned().chain(limits(rule)).chain(words::faults(&rule.fault)) {
        report.note("route", object.clone(), said);
    }
    report.rule = Some(Rule { object: object.clone(), field, condition, filters });
    if let Some(redirect) = rule.filters.iter().find_map(redirect) {
        let how = words::filter(&HttpFilter::Redirect(redirect.clone()));
        return Ok(Found::Answered(how));
    }
    let backends: Vec<(ServicePort, u32)> =
        rule.backends.iter().map(|backend| (backend.backend.clone(), backend.weight)).collect();
    for backend in &rule.backends {
        for filter in &backend.filters {
            let says = format!("for {}: {}", backend.backend, words::filter(filter));
            report.note("route", object.clone(), says);
        }
    }
    let losses = rule.fault.abort.iter().filter(|abort| abort.fraction.numerator() > 0);
    let losses = losses.map(|_| ("fault_abort", words::faults(&rule.fault).join(", "))).collect();
    given((backends, rule.missing_weight), losses, &object, report)
}

fn connection(
    called: &ServicePort,
    rule: &ConnectionRule,
    condition: &str,
    report: &mut WhyReport,
) -> Result<Found, Not> {
    let (object, field) = place(&rule.origin);
    let says = match rule.origin {
        RuleOrigin::ServiceDefault => {
            format!("no route for connections: the endpoints of {called}")
        }
        RuleOrigin::Object { .. } => format!("{field} is for all {condition}"),
    };
    report.good("route", object.clone(), says);
    let condition = condition.to_owned();
    report.rule = Some(Rule { object: object.clone(), field, condition, filters: Vec::new() });
    let backends = rule.backends.iter().map(|one| (one.backend.clone(), one.weight)).collect();
    given((backends, rule.missing_weight), Vec::new(), &object, report)
}

fn given(
    (backends, missing_weight): (Vec<(ServicePort, u32)>, u32),
    losses: Vec<(&'static str, String)>,
    object: &str,
    report: &mut WhyReport,
) -> Result<Found, Not> {
    if backends.iter().all(|(_, weight)| *weight == 0) {
        let not = Not {
            outcome: "no_backend",
            why: match missing_weight {
                0 => "no backend of the rule has a weight".to_owned(),
                _ => "no backend of the rule exists".to_owned(),
            },
            remedy: "see the route's ResolvedRefs: `meshctl routes`".to_owned(),
        };
        return Err(report.fails("route", object.to_owned(), not));
    }
    Ok(Found::Shares(Shares { backends, missing_weight, losses }))
}

fn limits(rule: &HttpRule) -> Vec<String> {
    let text = |duration| duration::Text(duration);
    let of_request = rule.timeouts.request.map(|limit| format!("at most {} in all", text(limit)));
    let of_attempt =
        rule.timeouts.backend_request.map(|limit| format!("at most {} an attempt", text(limit)));
    let retry = rule.retry.as_ref().map(|retry| {
        let codes: Vec<String> = retry.codes.iter().map(u16::to_string).collect();
        format!("tried again {} times at most, also after {}", retry.attempts, codes.join(", "))
    });
    of_request.into_iter().chain(of_attempt).chain(retry).collect()
}

fn redirect(filter: &HttpFilter) -> Option<&Redirect> {
    match filter {
        HttpFilter::Redirect(redirect) => Some(redirect),
        HttpFilter::RequestHeaders(_)
        | HttpFilter::ResponseHeaders(_)
        | HttpFilter::Rewrite(_)
        | HttpFilter::Mirror(_)
        | HttpFilter::Cors(_) => None,
    }
}

fn condition_of(rule: &HttpRule) -> String {
    let condition = words::any_of(&rule.matches);
    match rule.hostnames.as_slice() {
        [] => condition,
        hostnames => {
            let hosts: Vec<String> = hostnames.iter().map(words::hostname).collect();
            format!("{} {condition}", hosts.join(" or "))
        }
    }
}

fn place(origin: &RuleOrigin) -> (String, String) {
    match origin {
        RuleOrigin::ServiceDefault => (String::new(), String::new()),
        RuleOrigin::Object { object, field } => (object.to_string(), field.clone()),
    }
}
