//! The status for people. Pure.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use heddle_report::status::{Authority, Object, Proxy, Refusal, StatusReport};
use heddle_runtime::duration;

use crate::output::{Colour, Page};
use crate::table::{self, Cell};

/// The whole text: what is refused comes last, since that is where the eye ends on a terminal.
pub fn text(report: &StatusReport, now: SystemTime, page: Page) -> String {
    let colour = page.colour;
    let mut text = String::new();
    let _ = writeln!(text, "{}  version {}", colour.bold("configuration"), report.version);
    if let Some(authority) = &report.authority {
        text.push_str(&authority_text(authority, now, colour));
    }
    let (shown, hidden): (Vec<_>, Vec<_>) =
        report.objects.iter().partition(|object| !is_generated(object) || is_refused(object));
    if !report.objects.is_empty() {
        let rows: Vec<_> = shown.into_iter().map(|object| object_row(object, page)).collect();
        text.push('\n');
        let mut header = vec!["KIND", "OBJECT", "FILE", "STATE", "REASON"];
        if page.wide {
            header.push("CONDITIONS");
        }
        text.push_str(&table::of_page(&header, &rows, page));
    }
    if !hidden.is_empty() {
        let line = format!("and {} that the local runner keeps, none refused", hidden.len());
        let _ = writeln!(text, "{}", colour.dim(&line));
    }
    if !report.proxies.is_empty() {
        let rows: Vec<_> = report.proxies.iter().map(|proxy| proxy_row(proxy, page)).collect();
        text.push('\n');
        let mut header =
            vec!["PROXY", "STATE", "RESOURCES", "VERSION", "ACKNOWLEDGED", "REFUSED SO FAR"];
        if page.wide {
            header.extend(["PROXY VERSION", "UID"]);
        }
        text.push_str(&table::of_page(&header, &rows, page));
    }
    text.push('\n');
    text.push_str(&refusals(report, colour));
    text
}

fn authority_text(authority: &Authority, now: SystemTime, colour: Colour) -> String {
    let lifetime = duration::Text(Duration::from_secs(authority.leaf_lifetime_seconds));
    format!(
        "{}       trust domain {}, certificates of {lifetime}: {} issued, {} refused\n\
         \x20              anchor {}, issuer {}\n",
        colour.bold("identity"),
        authority.trust_domain,
        authority.certificates_issued,
        authority.certificates_refused,
        expiry(authority.anchor_not_after, now),
        expiry(authority.issuer_not_after, now),
    )
}

fn expiry(not_after: i64, now: SystemTime) -> String {
    let seconds = u64::try_from(not_after).unwrap_or(0);
    let Some(end) = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)) else {
        return "without end".to_owned();
    };
    match end.duration_since(now) {
        Err(_) => "EXPIRED".to_owned(),
        Ok(left) => match (left.as_secs() / 86_400, left.as_secs() / 3_600, left.as_secs() / 60) {
            (0, 0, minutes) => format!("expires in {minutes} min"),
            (0, hours, _) => format!("expires in {hours} h"),
            (days, _, _) => format!("expires in {days} days"),
        },
    }
}

/// Kept by the local runner, not by people: endpoints, of which there are many.
fn is_generated(object: &Object) -> bool {
    object.file.starts_with(".generated/")
}

fn is_refused(object: &Object) -> bool {
    object.refusals().next().is_some()
}

fn object_row(object: &Object, page: Page) -> Vec<Cell> {
    let undecided = object.conditions.iter().find(|condition| condition.status != "True");
    let (state, reason) = match (object.refusals().next(), undecided) {
        (Some(refused), _) => (Cell::bad("refused"), refused.reason.clone()),
        // No proxy's workload talks to it, so there is nobody to acknowledge it.
        (None, Some(waiting)) if waiting.reason == "NoProxies" => {
            (Cell::plain("unused"), String::new())
        }
        (None, Some(waiting)) => (Cell::plain("pending"), waiting.reason.clone()),
        (None, None) => (Cell::good("ok"), String::new()),
    };
    let name = format!("{}/{}", object.namespace, object.name);
    let mut row = vec![
        Cell::plain(&object.kind),
        Cell::plain(name),
        Cell::plain(&object.file),
        state,
        Cell::plain(reason),
    ];
    if page.wide {
        let conditions = object.conditions.iter();
        let told: Vec<String> = conditions
            .map(|condition| format!("{}={}", condition.kind, condition.status))
            .collect();
        row.push(Cell::plain(told.join(",")));
    }
    row
}

fn proxy_row(proxy: &Proxy, page: Page) -> Vec<Cell> {
    let state = if proxy.connected { Cell::good("connected") } else { Cell::bad("disconnected") };
    let mut row = vec![
        Cell::plain(proxy.title()),
        state,
        Cell::plain(proxy.resources.to_string()),
        Cell::plain(proxy.acknowledged_version.to_string()),
        Cell::plain(proxy.acknowledged_updates.to_string()),
        Cell::plain(proxy.refused_updates.to_string()),
    ];
    if page.wide {
        row.extend([Cell::plain(&proxy.proxy_version), Cell::plain(&proxy.pod_uid)]);
    }
    row
}

fn refusals(report: &StatusReport, colour: Colour) -> String {
    if !report.refused {
        return format!("{}\n", colour.good("nothing is refused"));
    }
    let mut text = format!("{}\n", colour.bad("refused"));
    for error in &report.source_errors {
        let _ = writeln!(text, "  file {}\n    {}", error.file, indented(&error.message));
    }
    for object in &report.objects {
        if object.refusals().next().is_none() {
            continue;
        }
        let _ = writeln!(text, "  {} ({})", object.title(), object.file);
        for condition in object.refusals() {
            let message = indented(&condition.message);
            let _ = writeln!(text, "    not {}, {}: {message}", condition.kind, condition.reason);
        }
    }
    for proxy in &report.proxies {
        for refusal in &proxy.refusals {
            let _ = writeln!(text, "  proxy {}", proxy.title());
            let _ = writeln!(text, "    {}", refusal_text(refusal));
        }
    }
    text
}

fn refusal_text(refusal: &Refusal) -> String {
    let Refusal { version, resource, reason, object, field } = refusal;
    let reason = indented(reason);
    match (object.as_str(), field.as_str()) {
        ("", _) => format!("version {version} of {resource}: {reason}"),
        (object, "") => format!("version {version} of {resource}, from {object}: {reason}"),
        (object, field) => {
            format!("version {version} of {resource}, from {object} {field}: {reason}")
        }
    }
}

fn indented(message: &str) -> String {
    message.trim_end().replace('\n', "\n      ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_proto::admin;

    fn condition(kind: &str, status: &str, reason: &str, message: &str) -> admin::Condition {
        admin::Condition {
            r#type: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }

    fn good_status() -> admin::Status {
        let accepted = condition("Accepted", "True", "Accepted", "");
        let object = |kind: &str, name: &str, file: &str| admin::Object {
            kind: kind.to_owned(),
            namespace: "default".to_owned(),
            name: name.to_owned(),
            file: file.to_owned(),
            conditions: vec![accepted.clone()],
        };
        let mut unused = object("Service", "old", "old.yaml");
        unused.conditions.push(condition("Programmed", "Unknown", "NoProxies", "nobody asks"));
        let proxy = |name: &str| admin::Proxy {
            pod_uid: format!("uid-{name}"),
            namespace: "default".to_owned(),
            name: name.to_owned(),
            proxy_version: "0.1.0".to_owned(),
            connected: true,
            resources: 4,
            acknowledged_updates: 9,
            refused_updates: 0,
            acknowledged_version: 12,
            refusals: vec![],
            pending_updates: 0,
            identity: None,
        };
        admin::Status {
            version: 12,
            objects: vec![
                object("Pod", "frontend", "frontend.yaml"),
                object("TrafficSplit", "api", "canary.yaml"),
                object(
                    "EndpointSlice",
                    "api-ipv4-0",
                    ".generated/endpoint-slices/default_api.yaml",
                ),
                unused,
            ],
            proxies: vec![proxy("frontend"), proxy("load")],
            authority: Some(admin::Authority {
                trust_domain: "cluster.local".to_owned(),
                certificates_issued: 6,
                certificates_refused: 0,
                anchor_not_after: 10 * 365 * 86_400,
                issuer_not_after: 86_400,
                leaf_lifetime_seconds: 30,
            }),
            source_errors: vec![],
        }
    }

    fn refused_status() -> admin::Status {
        let mut status = good_status();
        let message = "spec.backends[1].service: there is no service default/api-v3";
        status.objects[1].conditions = vec![
            condition("Accepted", "True", "Accepted", ""),
            condition("ResolvedRefs", "False", "BackendNotFound", message),
        ];
        status.proxies[1].refused_updates = 1;
        status.proxies[1].refusals = vec![admin::Refusal {
            version: 11,
            resource: "destination 10.43.0.2:8080".to_owned(),
            reason: "a regular expression that does not compile:\nunclosed group".to_owned(),
            object: "HTTPRoute default/frontend".to_owned(),
            field: "spec.rules[0].matches[0].path.value".to_owned(),
        }];
        status.source_errors = vec![admin::SourceError {
            file: "broken.yaml".to_owned(),
            message: "line 3, column 1: found a tab where indentation was wanted".to_owned(),
        }];
        status
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(3_600)
    }

    #[test]
    fn a_good_status_reads_at_a_glance() {
        let report = StatusReport::from(good_status());
        assert!(!report.refused);
        insta::assert_snapshot!(text(&report, now(), Page::USUAL));
    }

    #[test]
    fn a_refused_status_says_who_refuses_what_and_why() {
        let report = StatusReport::from(refused_status());
        assert!(report.refused);
        insta::assert_snapshot!(text(&report, now(), Page::USUAL));
    }

    #[test]
    fn the_status_for_machines_has_stable_fields() {
        insta::assert_json_snapshot!(StatusReport::from(refused_status()));
    }

    #[test]
    fn an_empty_status_is_no_refusal() {
        let report = StatusReport::from(admin::Status::default());
        assert_eq!(
            text(&report, now(), Page::USUAL),
            "configuration  version 0\n\nnothing is refused\n"
        );
    }

    #[test]
    fn more_is_shown_where_there_is_room_and_names_of_columns_are_left_out() {
        let report = StatusReport::from(good_status());
        let wide = text(&report, now(), Page { wide: true, ..Page::USUAL });
        assert!(wide.contains("CONDITIONS") && wide.contains("Accepted=True"), "{wide}");
        assert!(wide.contains("PROXY VERSION") && wide.contains("uid-"), "{wide}");
        let bare = text(&report, now(), Page { no_headers: true, ..Page::USUAL });
        assert!(!bare.contains("OBJECT") && !bare.contains("ACKNOWLEDGED"), "{bare}");
        assert_eq!(bare.lines().count() + 2, text(&report, now(), Page::USUAL).lines().count());
    }
}
