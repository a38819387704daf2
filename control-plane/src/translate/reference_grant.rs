//! ReferenceGrant → which routes of other namespaces may send to services of its namespace.

use gateway_api::experimental::referencegrants::ReferenceGrantSpec;
use heddle_model::names::{ObjectReference, ServiceName};

use crate::source::Custom;

/// What a grant allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// Of these services: those of this namespace.
    pub namespace: String,
    /// Kinds of the Gateway API, and the namespaces they are in.
    pub from: Vec<(String, String)>,
    /// By name; `None`: every service of the namespace.
    pub to: Vec<Option<String>>,
}

impl ReferenceGrant {
    /// Whether a route may refer to a service.
    pub fn allows(&self, route: &ObjectReference, service: &ServiceName) -> bool {
        self.namespace == service.namespace
            && self
                .from
                .iter()
                .any(|(kind, namespace)| *kind == route.kind && *namespace == route.namespace)
            && self.to.iter().any(|name| name.as_ref().is_none_or(|name| *name == service.name))
    }
}

/// Reads a grant. What it says of other kinds is not about the mesh.
pub fn translate(
    grant: &Custom<ReferenceGrantSpec>,
    reference: &ObjectReference,
) -> ReferenceGrant {
    let from = grant.spec.from.iter().filter(|from| from.group == "gateway.networking.k8s.io");
    let to = grant.spec.to.iter().filter(|to| to.group.is_empty() && to.kind == "Service");
    ReferenceGrant {
        namespace: reference.namespace.clone(),
        from: from.map(|from| (from.kind.clone(), from.namespace.clone())).collect(),
        to: to.map(|to| to.name.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::test_objects::read;

    #[test]
    fn a_grant_allows_what_it_names_and_nothing_else() {
        let grant = |to: &str| {
            let text = format!(
                "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: g, \
                 namespace: shop}}\nspec: {{from: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, \
                 namespace: web}}], to: [{to}]}}\n"
            );
            let (reference, grant) = read::<Custom<ReferenceGrantSpec>>(&text);
            translate(&grant, &reference)
        };
        let every = "{group: '', kind: Service}";
        let named = "{group: '', kind: Service, name: api}";
        for (case, to, kind, namespace, service, expected) in [
            ("every service", every, "HTTPRoute", "web", "shop/api", true),
            ("that service", named, "HTTPRoute", "web", "shop/api", true),
            ("another service", named, "HTTPRoute", "web", "shop/db", false),
            ("another kind of route", every, "GRPCRoute", "web", "shop/api", false),
            ("a route elsewhere", every, "HTTPRoute", "other", "shop/api", false),
            ("a service elsewhere", every, "HTTPRoute", "web", "bank/api", false),
            ("no services", "{group: '', kind: Secret}", "HTTPRoute", "web", "shop/api", false),
        ] {
            let route = ObjectReference {
                kind: kind.into(),
                namespace: namespace.into(),
                name: "r".into(),
            };
            let (namespace, name) = service.split_once('/').unwrap();
            let service = ServiceName { namespace: namespace.into(), name: name.into() };
            assert_eq!(grant(to).allows(&route, &service), expected, "case: {case}");
        }
    }
}
