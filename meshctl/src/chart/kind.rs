//! The kinds of objects that an installation may be made of, in the order in which they are applied.

use kube::core::ApiResource;

/// A kind. What is needed first comes first; they are deleted the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Where the rest is.
    Namespace,
    /// What the API server learns.
    CustomResourceDefinition,
    /// Who the pods are.
    ServiceAccount,
    /// What they may do everywhere.
    ClusterRole,
    /// That they may.
    ClusterRoleBinding,
    /// What they may do in the mesh's namespace.
    Role,
    /// That they may.
    RoleBinding,
    /// Settings.
    ConfigMap,
    /// Who may connect.
    NetworkPolicy,
    /// How many may be evicted.
    PodDisruptionBudget,
    /// Whose metrics the Prometheus operator has scraped; its definition is that operator's.
    PodMonitor,
    /// Where they are found.
    Service,
    /// Pods.
    Deployment,
    /// Comes last: nothing is asked of an injector that is not there.
    MutatingWebhookConfiguration,
}

impl Kind {
    /// All of them, in order.
    pub const ALL: [Self; 14] = [
        Self::Namespace,
        Self::CustomResourceDefinition,
        Self::ServiceAccount,
        Self::ClusterRole,
        Self::ClusterRoleBinding,
        Self::Role,
        Self::RoleBinding,
        Self::ConfigMap,
        Self::NetworkPolicy,
        Self::PodDisruptionBudget,
        Self::PodMonitor,
        Self::Service,
        Self::Deployment,
        Self::MutatingWebhookConfiguration,
    ];

    /// The kind of an object, if it is one of these.
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| {
            let resource = known.resource();
            resource.api_version == api_version && resource.kind == kind
        })
    }

    /// How the API server calls it.
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.names();
        let api_version =
            if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version,
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }

    /// As in `kubectl get`: `deployment.apps`.
    pub fn short_name(self) -> String {
        let (group, _, kind, _) = self.names();
        let kind = kind.to_lowercase();
        if group.is_empty() { kind } else { format!("{kind}.{group}") }
    }

    /// Whether its objects are in a namespace.
    pub fn is_namespaced(self) -> bool {
        match self {
            Self::Namespace
            | Self::CustomResourceDefinition
            | Self::ClusterRole
            | Self::ClusterRoleBinding
            | Self::MutatingWebhookConfiguration => false,
            Self::ServiceAccount
            | Self::Role
            | Self::RoleBinding
            | Self::ConfigMap
            | Self::NetworkPolicy
            | Self::PodDisruptionBudget
            | Self::PodMonitor
            | Self::Service
            | Self::Deployment => true,
        }
    }

    /// Whether an installation has such objects only where somebody asks for them, so that without them nobody needs to be
    /// allowed to make any.
    pub fn is_optional(self) -> bool {
        self == Self::PodMonitor
    }

    /// Group, version, kind, and plural.
    fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        const RBAC: &str = "rbac.authorization.k8s.io";
        match self {
            Self::Namespace => ("", "v1", "Namespace", "namespaces"),
            Self::CustomResourceDefinition => (
                "apiextensions.k8s.io",
                "v1",
                "CustomResourceDefinition",
                "customresourcedefinitions",
            ),
            Self::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::ClusterRole => (RBAC, "v1", "ClusterRole", "clusterroles"),
            Self::ClusterRoleBinding => (RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings"),
            Self::Role => (RBAC, "v1", "Role", "roles"),
            Self::RoleBinding => (RBAC, "v1", "RoleBinding", "rolebindings"),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
            Self::PodDisruptionBudget => {
                ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
            }
            Self::PodMonitor => ("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::MutatingWebhookConfiguration => (
                "admissionregistration.k8s.io",
                "v1",
                "MutatingWebhookConfiguration",
                "mutatingwebhookconfigurations",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_by_what_an_object_says() {
        for kind in Kind::ALL {
            let resource = kind.resource();
            assert_eq!(Kind::of(&resource.api_version, &resource.kind), Some(kind));
        }
        assert_eq!(Kind::of("v1", "Deployment"), None);
        assert_eq!(Kind::Deployment.short_name(), "deployment.apps");
    }

    #[test]
    fn they_are_listed_in_their_order() {
        assert!(Kind::ALL.is_sorted());
    }
}
