//! One status of several control planes': each knows all objects, and only its own proxies. Pure.

use std::collections::BTreeMap;

use heddle_proto::admin;

/// What they know together; nothing, if there are none.
pub fn merge(statuses: impl IntoIterator<Item = admin::Status>) -> admin::Status {
    statuses.into_iter().reduce(two).unwrap_or_default()
}

fn two(first: admin::Status, second: admin::Status) -> admin::Status {
    // The newest configuration is what counts; the other has not heard of it yet.
    let (newer, older) =
        if second.version > first.version { (second, first) } else { (first, second) };
    let authority = match (newer.authority, older.authority) {
        (Some(one), Some(other)) => Some(admin::Authority {
            certificates_issued: one.certificates_issued + other.certificates_issued,
            certificates_refused: one.certificates_refused + other.certificates_refused,
            ..one
        }),
        (one, other) => one.or(other),
    };
    admin::Status {
        version: newer.version,
        objects: objects(newer.objects, older.objects),
        proxies: proxies(newer.proxies.into_iter().chain(older.proxies)),
        authority,
        source_errors: newer.source_errors,
    }
}

/// A proxy is connected to one of them; the others may remember it.
pub fn proxies(all: impl IntoIterator<Item = admin::Proxy>) -> Vec<admin::Proxy> {
    let mut by_uid: BTreeMap<String, admin::Proxy> = BTreeMap::new();
    for proxy in all {
        let known = by_uid.get(&proxy.pod_uid);
        if known.is_none_or(|known| !known.connected && proxy.connected) {
            by_uid.insert(proxy.pod_uid.clone(), proxy);
        }
    }
    let mut proxies: Vec<_> = by_uid.into_values().collect();
    proxies.sort_by(|one, other| {
        (&one.namespace, &one.name, &one.pod_uid).cmp(&(
            &other.namespace,
            &other.name,
            &other.pod_uid,
        ))
    });
    proxies
}

fn objects(newer: Vec<admin::Object>, older: Vec<admin::Object>) -> Vec<admin::Object> {
    let key = |object: &admin::Object| {
        (object.kind.clone(), object.namespace.clone(), object.name.clone())
    };
    let older: BTreeMap<_, _> = older.into_iter().map(|object| (key(&object), object)).collect();
    let merged = newer.into_iter().map(|mut object| {
        let other = older.get(&key(&object));
        for condition in &mut object.conditions {
            let same = |other: &&admin::Condition| other.r#type == condition.r#type;
            let other = other.and_then(|other| other.conditions.iter().find(same));
            if let Some(other) = other.filter(|other| weight(other) > weight(condition)) {
                condition.clone_from(other);
            }
        }
        object
    });
    merged.collect()
}

/// What counts for all: one that says no, then one that waits, then one that says yes, and last one whose
/// proxies are not concerned.
fn weight(condition: &admin::Condition) -> u8 {
    match (condition.status.as_str(), condition.reason.as_str()) {
        ("False", _) => 3,
        ("True", _) => 1,
        (_, "NoProxies") => 0,
        (_, _) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(version: u64, programmed: (&str, &str), proxies: &[(&str, bool)]) -> admin::Status {
        let condition = |kind: &str, status: &str, reason: &str| admin::Condition {
            r#type: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: format!("as of {version}"),
        };
        admin::Status {
            version,
            objects: vec![admin::Object {
                kind: "HTTPRoute".to_owned(),
                name: "api".to_owned(),
                conditions: vec![
                    condition("Accepted", "True", "Accepted"),
                    condition("Programmed", programmed.0, programmed.1),
                ],
                ..Default::default()
            }],
            proxies: proxies
                .iter()
                .map(|(uid, connected)| admin::Proxy {
                    pod_uid: (*uid).to_owned(),
                    connected: *connected,
                    ..Default::default()
                })
                .collect(),
            authority: Some(admin::Authority { certificates_issued: 2, ..Default::default() }),
            source_errors: Vec::new(),
        }
    }

    #[test]
    fn what_one_of_them_refuses_is_refused() {
        let (yes, no) = (("True", "Programmed"), ("False", "Refused"));
        let (waits, nobody) = (("Unknown", "Pending"), ("Unknown", "NoProxies"));
        for (case, first, second, expected) in [
            ("both say yes", yes, yes, "True"),
            ("one refuses", yes, no, "False"),
            ("one waits", waits, yes, "Unknown"),
            ("one is not concerned", nobody, yes, "True"),
            ("refused beside waiting", waits, no, "False"),
        ] {
            for pair in [[first, second], [second, first]] {
                let merged = merge(pair.map(|programmed| status(7, programmed, &[])));
                let conditions = &merged.objects[0].conditions;
                assert_eq!(conditions[1].status, expected, "case: {case}");
                assert_eq!(conditions[0].status, "True", "case: {case}");
            }
        }
    }

    #[test]
    fn a_proxy_is_told_of_by_whom_it_is_connected_to() {
        let yes = ("True", "Programmed");
        let merged = merge([
            status(7, yes, &[("moved", false), ("a", true)]),
            status(8, yes, &[("moved", true), ("b", true)]),
        ]);
        let told: Vec<_> =
            merged.proxies.iter().map(|proxy| (proxy.pod_uid.as_str(), proxy.connected)).collect();
        assert_eq!(told, [("a", true), ("b", true), ("moved", true)]);
        assert_eq!(merged.version, 8);
        assert_eq!(merged.authority.unwrap().certificates_issued, 4);
    }
}
