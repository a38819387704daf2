//! What was seen of a cluster. What could not be seen is a sentence that says why, so that the rest is judged all the same.

use std::collections::BTreeMap;
use std::time::SystemTime;

use heddle_injector::report::Finding as CoverageFinding;

use crate::check::permissions::Permission;
use crate::install::rollout::Progress;

/// A fact, or why there is none.
pub type Seen<T> = Result<T, String>;

/// Before or after the mesh is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Whether it can be.
    Before,
    /// Whether it is well.
    After,
}

/// All facts.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What they are for.
    pub stage: Stage,
    /// The mesh's namespace.
    pub namespace: String,
    /// Of this program.
    pub own_version: String,
    /// The API server's.
    pub api: Seen<Api>,
    /// Of each node.
    pub nodes: Seen<Vec<Node>>,
    /// What the user may and may not do.
    pub permissions: Seen<Vec<(Permission, bool)>>,
    /// Which of the definitions that the mesh reads are there.
    pub definitions: Seen<Vec<Definition>>,
    /// Ports on which the API server listens, and those that the mesh's NetworkPolicies let it be asked on.
    pub api_ports: Seen<ApiPorts>,
    /// Namespaces with a control plane.
    pub meshes: Seen<Vec<String>>,
    /// Of the mesh that is installed; empty before.
    pub mesh: Option<Mesh>,
}

/// The API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Where it is.
    pub address: String,
    /// As it says: `v1.34.4`.
    pub version: String,
    /// Its clock, to the second, when it answered; `None`: it did not say.
    pub time: Option<SystemTime>,
    /// Ours at that moment.
    pub asked: SystemTime,
}

/// Where the API server is reached behind its Service, and where the mesh may reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiPorts {
    /// Where it listens.
    pub real: Vec<u64>,
    /// What NetworkPolicies of the mesh allow: before the installation, what the chart's defaults would. `None`: there is no
    /// policy.
    pub allowed: Option<Vec<u64>>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// As `uname -r`.
    pub kernel: String,
    /// `linux`.
    pub system: String,
    /// When it last said that it lives, by its own clock; `None`: never.
    pub renewed: Option<SystemTime>,
}

/// A definition of resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// `httproutes.gateway.networking.k8s.io`.
    pub name: String,
    /// Versions that are served; empty: it is not there.
    pub served: Vec<String>,
}

/// What is there of the mesh.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// Deployments and how far they are.
    pub deployments: Seen<Vec<(String, Progress)>>,
    /// Why pods of the mesh do not start.
    pub complaints: Vec<String>,
    /// Of trust anchors, of the issuer, of the webhook.
    pub certificates: Vec<(String, Seen<Vec<Certificate>>)>,
    /// What gives pods their proxy.
    pub webhook: Seen<Webhook>,
    /// A pod that was tried, and not kept.
    pub probe: Probe,
    /// What pods and namespaces should know.
    pub coverage: Seen<Coverage>,
    /// By component: `control-plane`, `injector`, `proxy`; then how many run which version.
    pub versions: Seen<BTreeMap<String, BTreeMap<String, usize>>>,
}

/// A certificate's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its subject.
    pub subject: String,
    /// Not before then.
    pub from: SystemTime,
    /// Not after then.
    pub until: SystemTime,
}

/// The configuration of the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Each webhook and its bundle, as certificates in PEM; empty: the injector has not written it.
    pub bundles: Vec<(String, Vec<u8>)>,
    /// `Ignore` or `Fail`.
    pub failure_policy: String,
    /// The certificate that it serves with, in PEM; a sentence: why it could not be read.
    pub authority: Seen<Vec<u8>>,
}

/// What the API server made of a pod that asks for a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It has one.
    Injected,
    /// It has none: nobody answered, or not in time, and the policy is to ignore that.
    NotInjected,
    /// The API server refused it: why.
    Refused(String),
    /// It could not be tried: why.
    NotTried(String),
}

/// A level of Pod Security that refuses pods with a proxy: both refuse the capability NET_ADMIN. Source: Kubernetes' Pod
/// Security Standards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodSecurity {
    /// What is known to raise privileges is refused.
    Baseline,
    /// What is not hardened is refused.
    Restricted,
}

impl PodSecurity {
    /// The level that a namespace enforces, if it is one of these.
    pub fn of_label(value: &str) -> Option<Self> {
        match value {
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }

    /// As in the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// Pods, looked at after the fact.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// How many have a proxy.
    pub meshed: usize,
    /// Why proxies do not start, with their namespaces.
    pub complaints: Vec<String>,
    /// What is to be told.
    pub findings: Vec<CoverageFinding>,
    /// Namespaces whose pods are to get a proxy and whose Pod Security refuses it, with its level.
    pub forbidden: Vec<(String, PodSecurity)>,
}
