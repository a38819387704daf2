//! Who calls, what the name stands for, which port that is, and how far the caller's proxy knows of it.

use heddle_model::destination::Destination;
use heddle_model::names::ObjectReference;
use heddle_proto::admin::held_resource::Answer;
use heddle_proto::admin::{NamedAs, PodFacts};
use heddle_proto::discovery;

use super::{Asked, Not, title};
use crate::why::report::WhyReport;

pub(super) fn caller<'a>(asked: &Asked<'a>, report: &mut WhyReport) -> Result<&'a PodFacts, Not> {
    let Some(caller) = asked.facts.caller.as_ref() else {
        let not = Not {
            outcome: "no_caller",
            why: "there is no such caller, or none of its pods lives".to_owned(),
            remedy: "name a pod that runs: `kubectl get pods`, or `meshctl proxy status`"
                .to_owned(),
        };
        return Err(report.fails("caller", String::new(), not));
    };
    let alike = match asked.facts.callers {
        0 | 1 => String::new(),
        count => format!("; one of {count} pods alike"),
    };
    let zone =
        if caller.zone.is_empty() { String::new() } else { format!(", zone {}", caller.zone) };
    let object = format!("Pod {}", title(caller));
    match caller.meshed {
        true => report.good("caller", object, format!("{}{zone}{alike}", caller.identity)),
        false => report.note(
            "caller",
            object,
            format!("has no proxy: it calls in plain text, and follows no route{zone}{alike}"),
        ),
    }
    let not_after =
        caller.proxy.as_ref().and_then(|proxy| proxy.identity).map(|held| held.not_after);
    if caller.meshed && not_after.is_some_and(|not_after| not_after <= asked.now) {
        let not = Not {
            outcome: "certificate_expired",
            why: "the certificate of the caller's proxy has expired".to_owned(),
            remedy: "see why it is not renewed: `meshctl proxy status`, and the proxy's log"
                .to_owned(),
        };
        return Err(report.fails("caller", format!("Pod {}", title(caller)), not));
    }
    Ok(caller)
}

pub(super) fn name(asked: &Asked<'_>, report: &mut WhyReport) -> Result<(), Not> {
    let facts = asked.facts;
    let target = format!("{}/{}", facts.target_namespace, facts.target_name);
    let host = &asked.host.name;
    let addresses = facts.service.as_ref().map(|service| service.addresses.join(", "));
    let addresses = addresses.unwrap_or_default();
    let (object, says) = match facts.named_as() {
        NamedAs::Service => (
            format!("Service {target}"),
            format!("{host} is {addresses}, the service's own address"),
        ),
        NamedAs::Headless if facts.addresses == 0 => {
            let not = Not {
                outcome: "no_endpoint",
                why: format!("service {target} is headless, and none of its pods is ready"),
                remedy: "see why its pods are not ready, and whether its selector fits them"
                    .to_owned(),
            };
            return Err(report.fails("name", format!("Service {target}"), not));
        }
        NamedAs::Headless => (
            format!("Service {target}"),
            format!("headless: {host} is any of the addresses of {} ready pods", facts.addresses),
        ),
        NamedAs::Pod => (format!("Pod {target}"), format!("{host} is the address of the pod")),
        NamedAs::External => {
            let external = facts.service.as_ref().map(|service| service.external_name.as_str());
            let elsewhere = external.filter(|name| !name.is_empty()).unwrap_or("a host elsewhere");
            (format!("Service {target}"), format!("{host} is another name for {elsewhere}"))
        }
        NamedAs::Address => match &facts.service {
            Some(service) => (
                format!("Service {}/{}", service.namespace, service.name),
                format!("{host} is the service's own address"),
            ),
            None => match &facts.pod {
                Some(pod) => {
                    (format!("Pod {}", title(pod)), format!("{host} is the pod's address"))
                }
                None => (String::new(), format!("{host} is no address of a service or a pod")),
            },
        },
        NamedAs::Outside => {
            (String::new(), format!("{host} is no service's name: another name server may know it"))
        }
        NamedAs::Missing | NamedAs::Unspecified => {
            let there = match facts.known_services.as_slice() {
                [] => format!("namespace {} has no service", facts.target_namespace),
                known => format!("services there: {}", known.join(", ")),
            };
            let not = Not {
                outcome: "unknown_name",
                why: format!("there is no service {target}"),
                remedy: format!("check the name and the namespace; {there}"),
            };
            return Err(report.fails("name", String::new(), not));
        }
    };
    report.good("name", object, says);
    Ok(())
}

/// The name is known, and no address of it.
pub(super) fn no_address(asked: &Asked<'_>, report: &mut WhyReport) -> Not {
    let service = asked.facts.service.as_ref();
    let object = service.map(|service| format!("Service {}/{}", service.namespace, service.name));
    let ports = service.map(|service| {
        let ports = service.ports.iter().map(|port| port.port.to_string());
        ports.collect::<Vec<_>>().join(", ")
    });
    let not = match (asked.facts.port, ports) {
        (0, Some(ports)) if !ports.is_empty() => Not {
            outcome: "which_port",
            why: format!("which port is meant cannot be told: it has {ports}"),
            remedy: format!("write {}:PORT", asked.host.name),
        },
        (0, _) => Not {
            outcome: "which_port",
            why: "which port is meant cannot be told".to_owned(),
            remedy: format!("write {}:PORT", asked.host.name),
        },
        (_, _) => Not {
            outcome: "no_address",
            why: "it has no address yet".to_owned(),
            remedy: "see the service's status: it may still wait for its address".to_owned(),
        },
    };
    report.fails("service", object.unwrap_or_default(), not)
}

/// The port of a service, and what is known of its protocol.
pub(super) fn service(
    asked: &Asked<'_>,
    destination: &Destination,
    report: &mut WhyReport,
) -> Result<(), Not> {
    let Some(service) = asked.facts.service.as_ref() else { return Ok(()) };
    let object = format!("Service {}/{}", service.namespace, service.name);
    let known = service.ports.iter().find(|port| port.port == asked.facts.port);
    if let Some(port) = known {
        let name = if port.name.is_empty() { String::new() } else { format!(" ({})", port.name) };
        let target = &port.target;
        let protocol = protocol(port.protocol());
        let says = format!(
            "port {}{name} to {target} of its pods, {protocol}: {}",
            port.port, port.reason
        );
        report.good("service", object, says);
        return Ok(());
    }
    match destination {
        // It says better which ports there are.
        Destination::Refused { .. } => {}
        Destination::Service(_) | Destination::Endpoint(_) | Destination::PassThrough => {
            let says = format!("does not declare port {}: it is the pod's own", asked.facts.port);
            report.note("service", object, says);
        }
    }
    Ok(())
}

pub(super) fn refused(asked: &Asked<'_>, reason: &str, report: &mut WhyReport) -> Not {
    let object = asked.facts.service.as_ref();
    let object = object.map(|service| format!("Service {}/{}", service.namespace, service.name));
    let not = Not {
        outcome: "refused",
        why: reason.to_owned(),
        remedy: "call a port that it has, or add this one to its spec.ports".to_owned(),
    };
    report.fails("service", object.unwrap_or_default(), not)
}

/// What the caller's proxy made of it.
pub(super) fn config(asked: &Asked<'_>, caller: &PodFacts, report: &mut WhyReport) {
    let facts = asked.facts;
    let object = format!("Pod {}", title(caller));
    let connected = caller.proxy.as_ref().is_some_and(|proxy| proxy.connected);
    let Some(held) = &facts.held else {
        let says = match connected {
            true => {
                "its proxy has not asked for this address yet: it will with the first connection"
            }
            false => {
                "its proxy is connected to no control plane that was asked: what it acts on is not known"
            }
        };
        report.note("config", object, says.to_owned());
        return;
    };
    let version = held.version;
    let from: Vec<String> = facts
        .origins
        .iter()
        .map(|origin| ObjectReference::from(origin.clone()).to_string())
        .collect();
    let from = match from.as_slice() {
        [] => String::new(),
        from => format!(", made from {}", from.join(", ")),
    };
    match (held.answer(), facts.held_is_current) {
        (Answer::Acknowledged, true) => {
            report.acknowledged = Some(true);
            report.good(
                "config",
                object,
                format!("its proxy has acknowledged version {version}{from}"),
            );
        }
        (Answer::Acknowledged, false) => {
            report.acknowledged = Some(false);
            let says =
                format!("its proxy acts on version {version}, and a newer one is on its way");
            report.note("config", object, says);
        }
        (Answer::Refused, _) => {
            report.acknowledged = Some(false);
            let says = format!(
                "its proxy refuses version {version} and goes on with what it had: {}",
                held.reason
            );
            report.note("config", object, says);
        }
        (Answer::Pending | Answer::Unspecified, _) => {
            report.acknowledged = Some(false);
            let says = format!("its proxy was sent version {version} and has not answered yet");
            report.note("config", object, says);
        }
    }
}

fn protocol(protocol: discovery::Protocol) -> &'static str {
    match protocol {
        discovery::Protocol::Detect | discovery::Protocol::Unspecified => "protocol detected",
        discovery::Protocol::Http1 => "HTTP/1",
        discovery::Protocol::Http2 => "HTTP/2",
        discovery::Protocol::Tls => "TLS of the application's own",
        discovery::Protocol::Opaque => "opaque",
    }
}
