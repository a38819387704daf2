//! Which kinds of objects are watched in a cluster, and what of each is kept.

use kube::core::ApiResource;

use crate::source::document;
use crate::source::kubernetes::pruning::{self, Keep};

/// A kind that is watched.
#[derive(Debug)]
pub struct Kind {
    /// Its name.
    pub kind: &'static str,
    /// Its name in paths.
    pub plural: &'static str,
    /// Where its definition comes from.
    pub definition: Definition,
    /// Which of its objects are watched; empty: all.
    pub labels: &'static str,
    /// What of an object is kept beside its metadata.
    pub keep: Keep,
}

/// Where the definition of a kind comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definition {
    /// Kubernetes itself: it is always there, at this group and version.
    BuiltIn(&'static str),
    /// A CustomResourceDefinition, which may come later: at one of these groups and versions.
    Custom(&'static [&'static str]),
}

impl Kind {
    /// What the API client needs to know of the kind at one group and version.
    pub fn resource(&self, api_version: &str) -> ApiResource {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.to_owned(),
            kind: self.kind.to_owned(),
            plural: self.plural.to_owned(),
        }
    }

    /// The kind's API group; empty for the core group.
    pub fn group(&self) -> &'static str {
        let api_version = match self.definition {
            Definition::BuiltIn(api_version) => api_version,
            Definition::Custom(versions) => versions.first().copied().unwrap_or_default(),
        };
        api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

/// Finds a kind by its name, as references have it.
pub fn find(kind: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|known| known.kind == kind)
}

/// All kinds that are watched.
pub static KINDS: [Kind; 12] = [
    built_in("v1", ("Node", "nodes"), pruning::NODE),
    built_in("v1", ("Pod", "pods"), pruning::POD),
    built_in("v1", ("Service", "services"), pruning::SERVICE),
    Kind {
        // Slices that stand behind no service are none of the mesh's.
        labels: "kubernetes.io/service-name",
        ..built_in(
            "discovery.k8s.io/v1",
            ("EndpointSlice", "endpointslices"),
            pruning::ENDPOINT_SLICE,
        )
    },
    custom(&document::HTTP_ROUTE, "HTTPRoute", "httproutes"),
    custom(&document::GRPC_ROUTE, "GRPCRoute", "grpcroutes"),
    custom(&document::TCP_ROUTE, "TCPRoute", "tcproutes"),
    custom(&document::TLS_ROUTE, "TLSRoute", "tlsroutes"),
    custom(&document::REFERENCE_GRANT, "ReferenceGrant", "referencegrants"),
    custom(&document::TRAFFIC_SPLIT, "TrafficSplit", "trafficsplits"),
    custom(&document::HTTP_ROUTE_GROUP, "HTTPRouteGroup", "httproutegroups"),
    custom(&document::TRAFFIC_POLICY, "TrafficPolicy", "trafficpolicies"),
];

const fn built_in(
    api_version: &'static str,
    (kind, plural): (&'static str, &'static str),
    keep: Keep,
) -> Kind {
    Kind { kind, plural, definition: Definition::BuiltIn(api_version), labels: "", keep }
}

const fn custom(
    versions: &'static [&'static str],
    kind: &'static str,
    plural: &'static str,
) -> Kind {
    Kind {
        kind,
        plural,
        definition: Definition::Custom(versions),
        labels: "",
        keep: pruning::CUSTOM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_knows_its_group_and_its_path() {
        let route = find("HTTPRoute").unwrap();
        assert_eq!(route.group(), "gateway.networking.k8s.io");
        let resource = route.resource("gateway.networking.k8s.io/v1beta1");
        assert_eq!(resource.version, "v1beta1");
        assert_eq!(find("Pod").unwrap().group(), "");
        assert_eq!(find("Pod").unwrap().resource("v1").version, "v1");
        assert!(find("Deployment").is_none());
    }
}
