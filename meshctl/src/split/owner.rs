//! Whether something else sets the weights of an object, and would set them back. Pure.
//!
//! Who sets what is told by `metadata.managedFields`; whoever is no tool of people is taken for a controller.

use serde_json::Value;

use crate::kubernetes::field;
use crate::split::plan::Place;

/// Who does, in words; `None`: nobody that is known.
pub fn of(object: &Value, place: Place) -> Option<String> {
    let owners = field::list(object, "/metadata/ownerReferences").iter();
    let mut owners = owners.filter(|owner| owner.get("controller") == Some(&Value::Bool(true)));
    if let Some(owner) = owners.next() {
        let (kind, name) = (field::text(owner, "/kind"), field::text(owner, "/name"));
        return Some(format!("it belongs to {kind} {name}, which sets it"));
    }
    let managers = field::list(object, "/metadata/managedFields").iter();
    let mut others = managers.filter(|entry| sets(entry, place)).filter_map(|entry| {
        let manager = field::text(entry, "/manager");
        (!is_a_persons_tool(manager)).then_some(manager)
    });
    if let Some(manager) = others.next() {
        return Some(format!("{manager} sets its weights (metadata.managedFields)"));
    }
    let annotation = GIT_OPS.iter().find(|(name, _)| field::has_annotation(object, name));
    let label = GIT_OPS.iter().find(|(name, _)| !field::label(object, name).is_empty());
    annotation.or(label).map(|(_, tool)| format!("{tool} keeps it as it is in a repository"))
}

/// The lists are atomic: who sets a weight in them sets them whole.
fn sets(entry: &Value, place: Place) -> bool {
    let list = match place {
        Place::Split => "/fieldsV1/f:spec/f:backends",
        Place::Rule(_) => "/fieldsV1/f:spec/f:rules",
    };
    field::text(entry, "/subresource").is_empty() && entry.pointer(list).is_some()
}

fn is_a_persons_tool(manager: &str) -> bool {
    PERSONS_TOOLS.iter().any(|tool| {
        manager
            .strip_prefix(tool)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '/']))
    })
}

/// What people change objects with, as it calls itself.
const PERSONS_TOOLS: [&str; 9] =
    ["kubectl", "meshctl", "helm", "Helm", "k9s", "curl", "oc", "node-fetch", "before-first-apply"];

/// What says that an object is kept as it is in a repository, and by what.
const GIT_OPS: [(&str, &str); 4] = [
    ("argocd.argoproj.io/tracking-id", "Argo CD"),
    ("argocd.argoproj.io/instance", "Argo CD"),
    ("kustomize.toolkit.fluxcd.io/name", "Flux"),
    ("helm.toolkit.fluxcd.io/name", "Flux"),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_sets_the_weights_is_told_unless_it_is_a_person() {
        let managed = |manager: &str, fields: Value| json!({"metadata": {"managedFields": [{"manager": manager, "fieldsV1": {"f:spec": fields}}]}});
        let backends = || json!({"f:backends": {}});
        let owned = |controller: bool| json!({"metadata": {"ownerReferences": [{"kind": "Canary", "name": "api", "controller": controller}]}});
        let status = json!({"metadata": {"managedFields": [
            {"manager": "x", "subresource": "status", "fieldsV1": {"f:spec": backends()}}
        ]}});
        for (case, object, place, expected) in [
            ("nobody", json!({}), Place::Split, None),
            ("kubectl", managed("kubectl-client-side-apply", backends()), Place::Split, None),
            ("kubectl edit", managed("kubectl-edit", backends()), Place::Split, None),
            ("meshctl", managed("meshctl", backends()), Place::Split, None),
            ("Flagger", managed("flagger", backends()), Place::Split, Some("flagger")),
            (
                "no tool of that name",
                managed("kubectlish", backends()),
                Place::Split,
                Some("kubectlish"),
            ),
            ("of something else", managed("flagger", json!({"f:rules": {}})), Place::Split, None),
            (
                "of the rules",
                managed("gatewayAPI", json!({"f:rules": {}})),
                Place::Rule(0),
                Some("gatewayAPI"),
            ),
            ("of the status", status, Place::Split, None),
            ("a Canary's", owned(true), Place::Split, Some("Canary api")),
            ("owned, not controlled", owned(false), Place::Split, None),
            (
                "Argo CD's",
                json!({"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "x"}}}),
                Place::Split,
                Some("Argo CD"),
            ),
            (
                "Flux's",
                json!({"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}}}),
                Place::Rule(1),
                Some("Flux"),
            ),
        ] {
            let found = of(&object, place);
            match expected {
                None => assert_eq!(found, None, "case: {case}"),
                Some(expected) => {
                    assert!(
                        found.as_ref().is_some_and(|found| found.contains(expected)),
                        "case: {case}: {found:?}"
                    );
                }
            }
        }
    }
}
