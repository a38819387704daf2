//! What a user must be allowed to do, and the question whether he is.

use serde_json::{Value, json};

use crate::chart::kind::Kind;
use crate::check::facts::Stage;

/// A verb on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// `create`.
    pub verb: &'static str,
    /// Its group; empty: the core one.
    pub group: String,
    /// `deployments`, `pods/portforward`.
    pub resource: String,
    /// `None`: in all of them, or it is in none.
    pub namespace: Option<String>,
    /// What it is for.
    pub purpose: &'static str,
}

/// Those that are needed.
pub fn needed(stage: Stage, namespace: &str) -> Vec<Permission> {
    match stage {
        Stage::Before => Kind::ALL
            .into_iter()
            .filter(|kind| !kind.is_optional())
            .flat_map(|kind| {
                let resource = kind.resource();
                // Server-side apply patches what is there, and creates what is not.
                ["create", "patch"].map(|verb| Permission {
                    verb,
                    group: resource.group.clone(),
                    resource: resource.plural.clone(),
                    namespace: kind.is_namespaced().then(|| namespace.to_owned()),
                    purpose: "meshctl install --apply",
                })
            })
            .collect(),
        Stage::After => {
            let permission = |verb, resource: &str, namespace: Option<&str>, purpose| Permission {
                verb,
                group: String::new(),
                resource: resource.to_owned(),
                namespace: namespace.map(ToOwned::to_owned),
                purpose,
            };
            vec![
                permission(
                    "create",
                    "pods/portforward",
                    Some(namespace),
                    "meshctl status, identity, proxy",
                ),
                permission("list", "pods", None, "coverage and versions"),
                permission("list", "namespaces", None, "coverage"),
                permission("list", "nodes", None, "clocks"),
                permission(
                    "get",
                    "secrets",
                    Some(namespace),
                    "days left of the webhook's certificate",
                ),
            ]
        }
    }
}

/// The question, as the API server wants it.
pub fn review(permission: &Permission) -> Value {
    let (resource, subresource) =
        permission.resource.split_once('/').unwrap_or((&permission.resource, ""));
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {
            "verb": permission.verb,
            "group": permission.group,
            "resource": resource,
            "subresource": subresource,
            "namespace": permission.namespace.as_deref().unwrap_or_default(),
        }},
    })
}

impl std::fmt::Display for Permission {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(formatter, "{} {}{dot}{}", self.verb, self.resource, self.group)?;
        match &self.namespace {
            Some(namespace) => write!(formatter, " in {namespace}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_install_applies_must_be_allowed() {
        let needed = needed(Stage::Before, "mesh");
        assert_eq!(needed.len(), 2 * (Kind::ALL.len() - 1));
        let texts: Vec<String> = needed.iter().map(ToString::to_string).collect();
        assert!(texts.contains(&"create deployments.apps in mesh".to_owned()), "{texts:?}");
        assert!(texts.contains(&"patch namespaces".to_owned()), "{texts:?}");
        assert!(!texts.iter().any(|text| text.contains("podmonitors")), "only where asked for");
    }

    #[test]
    fn a_subresource_is_asked_about_as_one() {
        let forward = needed(Stage::After, "mesh").swap_remove(0);
        let attributes = review(&forward)["spec"]["resourceAttributes"].clone();
        assert_eq!(attributes["resource"], "pods");
        assert_eq!(attributes["subresource"], "portforward");
        assert_eq!(attributes["namespace"], "mesh");
    }
}
