//! What is said of the cluster, with a mesh or without. Pure.

use std::time::{Duration, SystemTime};

use super::unseen;
use crate::check::facts::{Api, ApiPorts, Definition, Node, Seen, Stage};
use crate::check::finding::{Area, Finding};
use crate::check::permissions::Permission;

/// The first minor version of Kubernetes with native sidecars on by default.
pub const OLDEST_MINOR: u32 = 29;

/// The first kernel with NAT in nftables for both families in one table.
pub const OLDEST_KERNEL: (u32, u32) = (5, 2);

/// The API server and its version.
pub fn api(api: &Seen<Api>) -> Vec<Finding> {
    let api = match api {
        Ok(api) => api,
        Err(why) => {
            return vec![
                Finding::fail(Area::Api, format!("the API server does not answer: {why}"))
                    .hint("check the context, and that the cluster runs")
                    .command("kubectl cluster-info"),
            ];
        }
    };
    let finding = match numbers(&api.version) {
        Some((1, minor)) if minor >= OLDEST_MINOR => {
            Finding::ok(Area::Api, format!("{} at {}", api.version, api.address))
        }
        Some((major, _)) if major > 1 => {
            Finding::warn(Area::Api, format!("{} is a version that nobody tried", api.version))
        }
        Some(_) => Finding::fail(
            Area::Api,
            format!("{} is too old: want 1.{OLDEST_MINOR} or newer", api.version),
        )
        .hint("older ones have no native sidecars, which end when their pod's containers have"),
        None => {
            Finding::warn(Area::Api, format!("{:?} is a version that cannot be read", api.version))
        }
    };
    vec![finding]
}

/// Whether the mesh may reach the API server where it listens: NetworkPolicies count ports behind Services.
pub fn api_ports(ports: &Seen<ApiPorts>, stage: Stage, namespace: &str) -> Vec<Finding> {
    let area = Area::Api;
    let ApiPorts { real, allowed } = match ports {
        Ok(ports) => ports,
        Err(why) => return vec![unseen(area, "the API server's ports", why)],
    };
    let Some(allowed) = allowed else { return Vec::new() };
    let shut: Vec<&u64> = real.iter().filter(|port| !allowed.contains(port)).collect();
    let joined = |ports: &[u64]| ports.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    if shut.is_empty() {
        return Vec::new();
    }
    let mut all = [real.as_slice(), &[443]].concat();
    all.sort_unstable();
    all.dedup();
    let set = format!("--set networkPolicy.apiServerPorts='{{{}}}'", joined(&all));
    let real = joined(real);
    let (verb, finding) = match stage {
        Stage::Before => {
            let message =
                format!("the API server listens on {real}, which the default values shut");
            ("install", Finding::warn(area, message))
        }
        Stage::After => {
            let message = format!(
                "the API server listens on {real}, where the NetworkPolicies of the mesh let nobody ask it"
            );
            ("upgrade", Finding::fail(area, message))
        }
    };
    let command = format!("meshctl {verb} --mesh-namespace {namespace} --apply {set}");
    vec![finding.hint("it matters where the network enforces NetworkPolicies").command(command)]
}

/// Kernels.
pub fn nodes(nodes: &Seen<Vec<Node>>) -> Vec<Finding> {
    let nodes = match nodes {
        Ok(nodes) => nodes,
        Err(why) => return vec![unseen(Area::Nodes, "nodes", why)],
    };
    let mut findings = Vec::new();
    for node in nodes {
        if node.system != "linux" {
            let message = format!("{} runs {}: pods on it get no proxy", node.name, node.system);
            findings.push(Finding::ok(Area::Nodes, message));
        } else if numbers(&node.kernel).is_none_or(|kernel| kernel < OLDEST_KERNEL) {
            let (major, minor) = OLDEST_KERNEL;
            let message = format!(
                "{} has kernel {}: want {major}.{minor} or newer, whose nftables redirect IPv4 and IPv6",
                node.name, node.kernel
            );
            findings.push(
                Finding::fail(Area::Nodes, message)
                    .hint("keep meshed pods off this node until it is upgraded")
                    .command(format!("kubectl cordon {}", node.name)),
            );
        }
    }
    if findings.iter().all(|finding| finding.level == crate::check::finding::Level::Ok) {
        let (major, minor) = OLDEST_KERNEL;
        let linux = nodes.iter().filter(|node| node.system == "linux").count();
        let nodes = if linux == 1 { "node" } else { "nodes" };
        let message = format!("{linux} {nodes} with Linux {major}.{minor} or newer");
        findings.insert(0, Finding::ok(Area::Nodes, message));
    }
    findings
}

/// What the user may do.
pub fn permissions(permissions: &Seen<Vec<(Permission, bool)>>, stage: Stage) -> Vec<Finding> {
    let permissions = match permissions {
        Ok(permissions) => permissions,
        Err(why) => return vec![unseen(Area::Permissions, "permissions", why)],
    };
    let denied: Vec<Finding> = permissions
        .iter()
        .filter(|(_, allowed)| !allowed)
        .map(|(permission, _)| {
            let message = format!("you may not {permission}, for {}", permission.purpose);
            let finding = match stage {
                Stage::Before => Finding::fail(Area::Permissions, message),
                Stage::After => Finding::warn(Area::Permissions, message),
            };
            let dot = if permission.group.is_empty() { "" } else { "." };
            let of_namespace =
                permission.namespace.as_ref().map(|name| format!(" -n {name}")).unwrap_or_default();
            finding.hint("ask a cluster administrator for it").command(format!(
                "kubectl auth can-i {} {}{dot}{}{of_namespace}",
                permission.verb, permission.resource, permission.group
            ))
        })
        .collect();
    if denied.is_empty() {
        let purpose = match stage {
            Stage::Before => "you may apply everything that is installed",
            Stage::After => "you may ask the mesh, and look at pods",
        };
        return vec![Finding::ok(Area::Permissions, purpose)];
    }
    denied
}

/// What the mesh reads, its group, and the versions that it reads.
const GATEWAY: [(&str, &[&str]); 5] = [
    ("httproutes", &["v1", "v1beta1"]),
    ("grpcroutes", &["v1", "v1alpha2"]),
    ("tlsroutes", &["v1", "v1alpha3", "v1alpha2"]),
    ("tcproutes", &["v1", "v1alpha2"]),
    ("referencegrants", &["v1", "v1beta1", "v1alpha2"]),
];
const SMI: [(&str, &[&str]); 2] = [
    ("trafficsplits.split.smi-spec.io", &["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"]),
    ("httproutegroups.specs.smi-spec.io", &["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"]),
];
const OWN: [(&str, &[&str]); 1] = [("trafficpolicies.heddle.dev", &["v1alpha1"])];

/// All names of definitions that are looked at.
pub fn definition_names() -> Vec<String> {
    let gateway = GATEWAY.iter().map(|(plural, _)| format!("{plural}.{GATEWAY_GROUP}"));
    let others = SMI.iter().chain(&OWN).map(|(name, _)| (*name).to_owned());
    gateway.chain(others).collect()
}

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// Definitions of routes, splits and policies.
pub fn definitions(
    definitions: &Seen<Vec<Definition>>,
    stage: Stage,
    namespace: &str,
) -> Vec<Finding> {
    let area = Area::Definitions;
    let definitions = match definitions {
        Ok(definitions) => definitions,
        Err(why) => return vec![unseen(area, "resource definitions", why)],
    };
    let gateway: Vec<(String, &[&str])> = GATEWAY
        .iter()
        .map(|(plural, versions)| (format!("{plural}.{GATEWAY_GROUP}"), *versions))
        .collect();
    let named = |list: &[(&'static str, &'static [&'static str])]| -> Vec<(String, &'static [&'static str])> {
        list.iter().map(|(name, versions)| ((*name).to_owned(), *versions)).collect()
    };
    let mut findings = group(definitions, &gateway, "Gateway API", |finding| {
        finding
            .hint("routes of these kinds are served once they are defined; nothing has to be restarted")
            .command(GATEWAY_COMMAND)
    });
    findings.extend(group(definitions, &named(&SMI), "SMI", |finding| {
        finding.hint("Flagger and Argo Rollouts need them only where they are set up for SMI")
    }));
    if stage == Stage::After {
        let own = group(definitions, &named(&OWN), GROUP, |finding| {
            finding
                .hint("they come with the mesh")
                .command(format!("meshctl upgrade --mesh-namespace {namespace} --apply"))
        });
        // Ours are part of the installation: without them it is not whole.
        findings.extend(own.into_iter().map(|finding| match finding.hint {
            Some(_) => Finding { level: crate::check::finding::Level::Fail, ..finding },
            None => finding,
        }));
    }
    findings
}

/// Ours.
const GROUP: &str = "heddle.dev";

/// Whose types the control plane reads.
const GATEWAY_COMMAND: &str = "kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.6.3/standard-install.yaml";

fn group(
    definitions: &[Definition],
    wanted: &[(String, &[&str])],
    title: &str,
    remedy: impl Fn(Finding) -> Finding,
) -> Vec<Finding> {
    let area = Area::Definitions;
    let mut absent = Vec::new();
    let mut there = Vec::new();
    let mut findings = Vec::new();
    for (name, versions) in wanted {
        let plural = name.split('.').next().unwrap_or(name);
        let found = definitions.iter().find(|found| found.name == *name);
        match found.map(|found| found.served.as_slice()).filter(|served| !served.is_empty()) {
            None => absent.push(plural),
            Some(served) if served.iter().any(|version| versions.contains(&version.as_str())) => {
                there.push(plural);
            }
            Some(served) => findings.push(
                Finding::warn(
                    area,
                    format!(
                        "{name} has the versions {}, of which the mesh reads none: want {}",
                        served.join(", "),
                        versions.join(" or ")
                    ),
                )
                .hint("objects of this kind have no effect"),
            ),
        }
    }
    if !there.is_empty() {
        findings.push(Finding::ok(area, format!("{title}: {}", there.join(", "))));
    }
    if !absent.is_empty() {
        findings.push(remedy(Finding::ok(
            area,
            format!("{title}: not defined: {}", absent.join(", ")),
        )));
    }
    findings
}

/// The API server's clock beside ours, and the nodes' beside the API server's.
pub fn clocks(api: &Seen<Api>, nodes: &Seen<Vec<Node>>) -> Vec<Finding> {
    let area = Area::Clocks;
    let Ok(api) = api else {
        return Vec::new();
    };
    let Some(time) = api.time else {
        return vec![Finding::warn(area, "the API server does not say what time it is")];
    };
    let mut findings = vec![own_clock(time, api.asked)];
    for node in nodes.iter().flatten() {
        let Some(renewed) = node.renewed else {
            let message = format!("{} never said that it lives", node.name);
            findings.push(Finding::warn(area, message));
            continue;
        };
        let (ahead, by) = difference(renewed, time);
        if ahead && by > CLOCK_TOLERANCE {
            let message =
                format!("{}'s clock is {} s ahead of the API server's", node.name, by.as_secs());
            findings.push(
                Finding::fail(area, message)
                    .hint("certificates that it is given are not valid yet elsewhere: set its clock (chrony, systemd-timesyncd)"),
            );
        } else if !ahead && by > LEASE_TOLERANCE {
            let message = format!(
                "{} said {} s ago that it lives: it is down, or its clock is behind",
                node.name,
                by.as_secs()
            );
            let command = format!("kubectl describe node {}", node.name);
            findings.push(Finding::warn(area, message).command(command));
        }
    }
    if findings.len() == 1 {
        let count = nodes.iter().flatten().count();
        let agree = if count == 1 { "node agrees" } else { "nodes agree" };
        findings.push(Finding::ok(area, format!("{count} {agree} with the API server")));
    }
    findings
}

fn own_clock(time: SystemTime, ours: SystemTime) -> Finding {
    let (ahead, by) = difference(ours, time);
    let word = if ahead { "ahead of" } else { "behind" };
    let seconds = by.as_secs();
    if by > CLOCK_TOLERANCE {
        let message = format!("this machine's clock is {seconds} s {word} the API server's");
        return Finding::warn(Area::Clocks, message)
            .hint("days left and ages are told by it: set it (chrony, systemd-timesyncd)");
    }
    Finding::ok(Area::Clocks, "this machine's clock agrees with the API server's")
}

fn difference(one: SystemTime, other: SystemTime) -> (bool, Duration) {
    match one.duration_since(other) {
        Ok(by) => (true, by),
        Err(error) => (false, error.duration()),
    }
}

/// An HTTP date has whole seconds, and the answer takes its time.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Kubelets renew every 10 s, and are taken for gone after 40.
const LEASE_TOLERANCE: Duration = Duration::from_secs(60);

/// Where control planes are.
pub fn meshes(meshes: &Seen<Vec<String>>, stage: Stage, namespace: &str) -> Vec<Finding> {
    let area = Area::Workloads;
    let meshes = match meshes {
        Ok(meshes) => meshes,
        Err(why) => return vec![unseen(area, "control planes", why)],
    };
    if let Some(other) = meshes.iter().find(|other| *other != namespace) {
        return vec![
            Finding::fail(area, format!("there is a mesh in {other}; a cluster has one"))
                .hint("name it, or uninstall it first")
                .command(format!("meshctl check --mesh-namespace {other}")),
        ];
    }
    match (stage, meshes.is_empty()) {
        (Stage::Before, true) => vec![Finding::ok(area, "no mesh is installed yet")],
        (Stage::Before, false) => vec![
            Finding::warn(area, format!("a mesh is in {namespace} already"))
                .command(format!("meshctl upgrade --mesh-namespace {namespace}")),
        ],
        (Stage::After, true) => vec![
            Finding::fail(area, format!("there is no mesh in {namespace}"))
                .hint("install it, or give the --mesh-namespace that it is in")
                .command(format!("meshctl install --mesh-namespace {namespace} --apply")),
        ],
        (Stage::After, false) => Vec::new(),
    }
}

/// The first two numbers of a version.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
