//! TCPRoute and TLSRoute → backends of connections that the mesh does not read.

use gateway_api::experimental::tcproutes::TcpRouteSpec;
use heddle_model::names::ObjectReference;
use heddle_model::route::Hostname;
use serde::Serialize;

use crate::source::Custom;
use crate::source::tls_route::TlsRouteSpec;
use crate::translate::route::hostnames::hostnames;
use crate::translate::route::{self, Backend, Parent, RuleContext};
use crate::translate::{Rejected, Seniority};

/// Where the connections of the services go that a route is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRoute {
    /// The route.
    pub reference: ObjectReference,
    /// Decides between several routes that match alike.
    pub seniority: Seniority,
    /// What its connections ask for.
    pub hostnames: Vec<Hostname>,
    /// Services it is attached to; empty if it is attached to gateways only.
    pub parents: Vec<Parent>,
    /// Where its rule is written.
    pub field: String,
    /// Where connections go.
    pub backends: Vec<Backend>,
}

/// Reads a TCPRoute, whose `hostnames` are none.
pub fn of_tcp(
    route: &Custom<TcpRouteSpec>,
    reference: &ObjectReference,
) -> Result<ConnectionRoute, Rejected> {
    let rules: Vec<_> = route.spec.rules.iter().map(|rule| rule.backend_refs.as_slice()).collect();
    let (field, backends) = only_rule(&rules, reference)?;
    Ok(ConnectionRoute {
        reference: reference.clone(),
        seniority: Seniority::new(&route.metadata, reference),
        hostnames: Vec::new(),
        parents: route::parents(route.spec.parent_refs.as_ref(), reference)?,
        field,
        backends,
    })
}

/// Reads a TLSRoute.
pub fn of_tls(
    route: &Custom<TlsRouteSpec>,
    reference: &ObjectReference,
) -> Result<ConnectionRoute, Rejected> {
    let rules: Vec<_> = route.spec.rules.iter().map(|rule| rule.backend_refs.as_slice()).collect();
    let (field, backends) = only_rule(&rules, reference)?;
    Ok(ConnectionRoute {
        reference: reference.clone(),
        seniority: Seniority::new(&route.metadata, reference),
        hostnames: hostnames(&route.spec.hostnames)?,
        parents: route::parents(route.spec.parent_refs.as_ref(), reference)?,
        field,
        backends,
    })
}

/// Rules have no conditions here: of several, all but the first would do nothing without a word.
fn only_rule<B: Serialize>(
    rules: &[&[B]],
    route: &ObjectReference,
) -> Result<(String, Vec<Backend>), Rejected> {
    let [backends] = rules else {
        let message = format!("are {}, and only one can be served", rules.len());
        return Err(Rejected::unsupported("spec.rules", message));
    };
    let field = "spec.rules[0]".to_owned();
    let context = RuleContext { route, field: &field, matches_prefixes: false };
    let backends = route::backends(backends, &context)?;
    Ok((field, backends))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::route::BackendTarget;
    use crate::translate::test_objects::read;

    fn tls(spec: &str) -> Result<ConnectionRoute, String> {
        let text = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: TLSRoute\nmetadata: {{name: r}}\nspec: {spec}\n"
        );
        let (reference, route) = read::<Custom<TlsRouteSpec>>(&text);
        of_tls(&route, &reference).map_err(|rejected| rejected.to_string())
    }

    fn tcp(spec: &str) -> Result<ConnectionRoute, String> {
        let text = format!(
            "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: {{name: r}}\nspec: {spec}\n"
        );
        let (reference, route) = read::<Custom<TcpRouteSpec>>(&text);
        of_tcp(&route, &reference).map_err(|rejected| rejected.to_string())
    }

    #[test]
    fn the_backends_of_both_kinds_are_read() {
        let parent = "parentRefs: [{kind: Service, group: '', name: db, sectionName: sql}]";
        let backends = "backendRefs: [{name: a, port: 1, weight: 9}, {name: b, port: 2}]";
        let route = tcp(&format!("{{{parent}, rules: [{{{backends}}}]}}")).unwrap();
        assert_eq!(route.parents[0].port_name.as_deref(), Some("sql"));
        let weights: Vec<u32> = route.backends.iter().map(|backend| backend.weight).collect();
        assert_eq!(weights, [9, 1]);
        let route =
            tls(&format!("{{hostnames: ['*.a.b'], {parent}, rules: [{{{backends}}}]}}")).unwrap();
        assert_eq!(route.hostnames, [Hostname::Below("a.b".into())]);
        let every = tls(&format!("{{{parent}, rules: [{{{backends}}}]}}")).unwrap();
        assert_eq!(every.hostnames, []);
        assert!(
            matches!(&route.backends[1].target, BackendTarget::Service(port) if port.port.number() == 2)
        );
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_the_field() {
        for (shown, field) in [
            (tcp("{rules: [{backendRefs: []}, {backendRefs: []}]}"), "spec.rules"),
            (tcp("{rules: []}"), "spec.rules"),
            (tls("{hostnames: [10.0.0.1], rules: [{backendRefs: []}]}"), "spec.hostnames[0]"),
            (
                tls("{hostnames: [], rules: [{backendRefs: [{name: a}]}]}"),
                "spec.rules[0].backendRefs[0].port",
            ),
        ] {
            let error = shown.unwrap_err();
            assert!(error.starts_with(field), "case: {field}: {error}");
        }
    }
}
