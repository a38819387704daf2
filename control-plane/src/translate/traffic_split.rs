//! TrafficSplit → shares of the services behind a service.

use heddle_model::names::{ObjectReference, ServiceName};

use crate::source::Custom;
use crate::source::traffic_split::TrafficSplitSpec;
use crate::translate::{Rejected, Seniority, weight};

/// Shares of the services behind a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficSplit {
    /// The split.
    pub reference: ObjectReference,
    /// Decides which of two splits of one service counts.
    pub seniority: Seniority,
    /// The service that clients call.
    pub root: ServiceName,
    /// In the order they were written; at least one has a share.
    pub leaves: Vec<Leaf>,
    /// Only the requests that one of these is about are split; empty: all.
    pub groups: Vec<GroupReference>,
}

/// A reference to an HTTPRouteGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReference {
    /// Where it is written: `spec.matches[0]`.
    pub field: String,
    /// The group's name; it is in the split's namespace.
    pub name: String,
}

/// One backend of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The service.
    pub service: ServiceName,
    /// Its part of the sum.
    pub weight: u32,
}

/// Reads a split.
pub fn translate(
    split: &Custom<TrafficSplitSpec>,
    reference: &ObjectReference,
) -> Result<TrafficSplit, Rejected> {
    let spec = &split.spec;
    let in_namespace = |name: &str, field: String| {
        if is_service_name(name) {
            Ok(ServiceName { namespace: reference.namespace.clone(), name: name.to_owned() })
        } else {
            let message =
                format!("{name:?} is not a service's name (want one of the same namespace)");
            Err(Rejected::invalid(field, message))
        }
    };
    let root = in_namespace(&spec.service, "spec.service".to_owned())?;
    let mut services: Vec<ServiceName> = Vec::new();
    let mut weights = Vec::new();
    for (index, backend) in spec.backends.iter().enumerate() {
        let field = format!("spec.backends[{index}]");
        let service = in_namespace(&backend.service, format!("{field}.service"))?;
        if services.contains(&service) {
            let message = format!("{:?} is there twice; give it one weight", backend.service);
            return Err(Rejected::invalid(format!("{field}.service"), message));
        }
        services.push(service);
        let thousandths = weight::in_thousandths(&backend.weight)
            .map_err(|message| Rejected::invalid(format!("{field}.weight"), message))?;
        weights.push(thousandths);
    }
    if weights.iter().all(|weight| *weight == 0) {
        let message = "no backend has a weight, so that no request could be served; give at least one \
                       a weight of 1 or more";
        return Err(Rejected::invalid("spec.backends", message));
    }
    let weights = weight::reduced(&weights).ok_or_else(|| {
        Rejected::invalid("spec.backends", "the weights are too far apart to be told apart")
    })?;
    let leaves = services.into_iter().zip(weights);
    Ok(TrafficSplit {
        reference: reference.clone(),
        seniority: Seniority::new(&split.metadata, reference),
        root,
        groups: groups(spec)?,
        leaves: leaves.map(|(service, weight)| Leaf { service, weight }).collect(),
    })
}

fn groups(spec: &TrafficSplitSpec) -> Result<Vec<GroupReference>, Rejected> {
    if spec.matches.len() > GROUPS_LIMIT {
        return Err(Rejected::invalid("spec.matches", format!("are more than {GROUPS_LIMIT}")));
    }
    let mut found = Vec::new();
    for (index, one) in spec.matches.iter().enumerate() {
        let field = format!("spec.matches[{index}]");
        let group = one.api_group.as_deref().unwrap_or(GROUP);
        if one.kind != "HTTPRouteGroup" || group != GROUP {
            let message = format!("{:?} cannot be served (want HTTPRouteGroup)", one.kind);
            return Err(Rejected::unsupported(format!("{field}.kind"), message));
        }
        found.push(GroupReference { field, name: one.name.clone() });
    }
    Ok(found)
}

/// Where HTTPRouteGroup is.
const GROUP: &str = "specs.smi-spec.io";
/// As many rules as a Gateway API route may have.
const GROUPS_LIMIT: usize = 16;

/// RFC 1035 labels, as Kubernetes has it for services, and a little more.
fn is_service_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::test_objects::read;

    fn check(version: &str, spec: &str) -> Result<Vec<(String, u32)>, String> {
        let text = format!(
            "apiVersion: split.smi-spec.io/{version}\nkind: TrafficSplit\nmetadata: {{name: api, \
             namespace: shop}}\nspec: {spec}\n"
        );
        let (reference, split) = read::<Custom<TrafficSplitSpec>>(&text);
        let split = translate(&split, &reference).map_err(|rejected| rejected.to_string())?;
        assert_eq!(split.root.to_string(), "shop/api");
        Ok(split.leaves.into_iter().map(|leaf| (leaf.service.name, leaf.weight)).collect())
    }

    #[test]
    fn the_weights_of_every_version_are_shares() {
        for (version, stable, canary, expected) in [
            ("v1alpha1", "900m", "100m", (9, 1)),
            ("v1alpha1", "\"1\"", "1", (1, 1)),
            ("v1alpha2", "90", "10", (9, 1)),
            ("v1alpha3", "100", "0", (1, 0)),
            ("v1alpha4", "50", "50", (1, 1)),
        ] {
            let spec = format!(
                "{{service: api, backends: [{{service: a, weight: {stable}}}, {{service: b, weight: {canary}}}]}}"
            );
            let leaves = check(version, &spec).unwrap();
            let weights: Vec<u32> = leaves.iter().map(|(_, weight)| *weight).collect();
            assert_eq!(weights, [expected.0, expected.1], "case: {version} {stable} {canary}");
        }
    }

    #[test]
    fn a_split_that_means_nothing_is_rejected_with_the_field() {
        let rows = [
            "{service: api, backends: [{service: a, weight: 5}, {service: b, weight: -5}]}",
            "{service: api, backends: [{service: a, weight: 0}]}",
            "{service: api, backends: []}",
            "{service: api, backends: [{service: a, weight: 1}, {service: a, weight: 1}]}",
            "{service: api, backends: [{service: A.b, weight: 1}]}",
            "{service: api, backends: [{service: a, weight: 1Gi}]}",
            "{service: api, backends: [{service: a, weight: 1}], matches: [{kind: TCPRoute, name: g}]}",
        ];
        let shown: Vec<String> =
            rows.iter().map(|spec| check("v1alpha4", spec).unwrap_err()).collect();
        insta::assert_snapshot!(shown.join("\n"));
    }
}
