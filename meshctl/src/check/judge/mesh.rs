//! What is said of the mesh. Pure.

use std::time::{Duration, SystemTime};

use super::unseen;
use crate::check::certificates;
use crate::check::facts::{Certificate, Mesh, Probe, Seen, Webhook};
use crate::check::finding::{Area, Finding};
use crate::install::rollout::Progress;

/// Control plane and injector.
pub fn deployments(mesh: &Mesh, namespace: &str) -> Vec<Finding> {
    let area = Area::Workloads;
    let deployments = match &mesh.deployments {
        Ok(deployments) => deployments,
        Err(why) => return vec![unseen(area, "deployments", why)],
    };
    let look = |finding: Finding, name: &str| {
        finding.command(format!("kubectl -n {namespace} describe deployment {name}"))
    };
    let mut findings: Vec<Finding> = deployments
        .iter()
        .map(|(name, progress)| match progress {
            Progress::Ready => Finding::ok(area, format!("{name} is available")),
            Progress::Pending(what) => look(Finding::fail(area, format!("{name}: {what}")), name),
        })
        .collect();
    findings.extend(mesh.complaints.iter().map(|complaint| Finding::fail(area, complaint)));
    findings
}

/// Days left of each certificate.
pub fn certificates(mesh: &Mesh, namespace: &str, now: SystemTime) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (what, certificates) in &mesh.certificates {
        match certificates {
            Err(why) => findings.push(unseen(Area::Certificates, what, why)),
            Ok(certificates) => {
                let judged = certificates.iter().map(|one| certificate(what, one, namespace, now));
                findings.extend(judged);
            }
        }
    }
    findings
}

fn certificate(what: &str, one: &Certificate, namespace: &str, now: SystemTime) -> Finding {
    let area = Area::Certificates;
    let life = one.until.duration_since(one.from).unwrap_or_default();
    let remedy = |finding: Finding| match what {
        TRUST_ANCHORS => finding
            .hint("all proxies learn the new one before the old one goes")
            .command("meshctl identity rotate --root"),
        ISSUER => finding
            .hint("the leader renews it by itself: its log says why it did not")
            .command("meshctl identity rotate --issuer"),
        _ => finding
            .hint("the injector renews it by itself: its log says why it did not")
            .command(format!("kubectl -n {namespace} rollout restart deployment heddle-injector")),
    };
    let Ok(left) = one.until.duration_since(now) else {
        return remedy(Finding::fail(area, format!("{what}: {} has expired", one.subject)));
    };
    if now < one.from {
        let message = format!("{what}: {} is not valid yet: a clock is wrong", one.subject);
        return Finding::fail(area, message);
    }
    let message = format!("{what}: {} left of {}", span(left), one.subject);
    // What renews itself does so long before; what does not deserves its warning in time.
    if left < life / 10 { remedy(Finding::warn(area, message)) } else { Finding::ok(area, message) }
}

/// As in `gather`: how certificates are called.
pub const TRUST_ANCHORS: &str = "trust anchor";
/// What signs workloads' certificates.
pub const ISSUER: &str = "issuer";
/// What the injector serves with.
pub const SERVING: &str = "webhook";

fn span(left: Duration) -> String {
    let hours = left.as_secs() / 3600;
    match hours {
        0 => format!("{} minutes", left.as_secs() / 60),
        1..48 => format!("{hours} hours"),
        _ => format!("{} days", hours / 24),
    }
}

/// Its configuration, its bundle, and whether it answers.
pub fn webhook(mesh: &Mesh, namespace: &str) -> Vec<Finding> {
    let area = Area::Webhook;
    let mut findings = match &mesh.webhook {
        Ok(webhook) => configuration(webhook, namespace),
        Err(why) => vec![
            Finding::fail(area, format!("its configuration is not there: {why}"))
                .command(format!("meshctl upgrade --mesh-namespace {namespace} --apply")),
        ],
    };
    let logs = format!("kubectl -n {namespace} logs deployment/heddle-injector");
    findings.push(match &mesh.probe {
        Probe::Injected => Finding::ok(area, "answers: a pod was tried, and got its proxy"),
        Probe::NotInjected => Finding::fail(area, "a pod was tried, and got no proxy: nobody answered, or not in time")
            .hint("pods that start now run without a proxy; see whether the API server reaches the injector (NetworkPolicies, port 15243)")
            .command(logs),
        Probe::Refused(why) => Finding::fail(area, format!("a pod was tried, and refused: {why}")).command(logs),
        Probe::NotTried(why) => Finding::warn(area, format!("no pod could be tried: {why}")),
    });
    findings
}

fn configuration(webhook: &Webhook, namespace: &str) -> Vec<Finding> {
    let area = Area::Webhook;
    let restart = format!("kubectl -n {namespace} rollout restart deployment heddle-injector");
    let mut findings = Vec::new();
    let empty: Vec<&str> = webhook
        .bundles
        .iter()
        .filter(|(_, bundle)| bundle.is_empty())
        .map(|(name, _)| name.as_str())
        .collect();
    if !empty.is_empty() {
        let message = format!("the injector has written no caBundle: {}", empty.join(", "));
        findings.push(
            Finding::fail(area, message)
                .hint("it does once it serves: see why it does not")
                .command(restart.clone()),
        );
    } else if let Ok(authority) = &webhook.authority {
        let differs = webhook.bundles.iter().any(|(_, bundle)| !holds(bundle, authority));
        findings.push(if differs {
            Finding::fail(
                area,
                "caBundle does not hold the authority of the injector's certificate",
            )
            .hint("somebody else wrote it; the injector writes it anew when it starts")
            .command(restart)
        } else {
            Finding::ok(area, "caBundle holds the authority of the injector's certificate")
        });
    }
    let policy = match webhook.failure_policy.as_str() {
        "Fail" => "failurePolicy Fail: while no injector answers, meshed pods do not start",
        _ => "failurePolicy Ignore: while no injector answers, meshed pods start without a proxy",
    };
    findings.push(Finding::ok(area, policy));
    findings
}

/// Whether all certificates of `authority` are in `bundle`.
fn holds(bundle: &[u8], authority: &[u8]) -> bool {
    match (certificates::read(bundle), certificates::read(authority)) {
        (Ok(bundle), Ok(authority)) => authority.iter().all(|one| bundle.contains(one)),
        (Ok(_) | Err(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

/// Pods that should have a proxy and have none, and what else their owners should know.
pub fn coverage(mesh: &Mesh) -> Vec<Finding> {
    let area = Area::Coverage;
    let coverage = match &mesh.coverage {
        Ok(coverage) => coverage,
        Err(why) => return vec![unseen(area, "pods", why)],
    };
    let mut findings =
        vec![Finding::ok(area, format!("{} pods have their proxy", coverage.meshed))];
    for complaint in coverage.complaints.iter().take(LINE_LIMIT) {
        findings.push(Finding::fail(area, complaint));
    }
    for told in coverage.findings.iter().take(LINE_LIMIT) {
        let place = match &told.pod {
            Some(pod) => format!("{}/{}", told.namespace, pod.name),
            None => format!("namespace {}", told.namespace),
        };
        let message = format!("{place}: {}", told.kind);
        findings.push(match told.kind.is_problem() {
            true => Finding::warn(area, message),
            false => Finding::ok(area, message),
        });
    }
    let untold = |count: usize| count.saturating_sub(LINE_LIMIT);
    let more = untold(coverage.findings.len()) + untold(coverage.complaints.len());
    if more > 0 {
        let message = format!("{more} more pods are not as they should be");
        findings.push(Finding::warn(area, message).hint("Events at the pods say why"));
    }
    findings
}

/// Namespaces whose pods would be refused with their proxy.
pub fn pod_security(mesh: &Mesh) -> Vec<Finding> {
    let Ok(coverage) = &mesh.coverage else { return Vec::new() };
    let told = coverage.forbidden.iter().take(LINE_LIMIT).map(|(namespace, level)| {
        let level = level.as_str();
        let message = format!(
            "namespace {namespace}: Pod Security `{level}` refuses pods with a proxy, whose init container heddle-redirect has the capability NET_ADMIN"
        );
        Finding::fail(Area::Coverage, message)
            .hint("enforce `privileged` there, and keep the level for `warn` and `audit`; or take heddle.dev/inject away")
            .command(format!(
                "kubectl label namespace {namespace} --overwrite pod-security.kubernetes.io/enforce=privileged pod-security.kubernetes.io/warn={level}"
            ))
    });
    told.collect()
}

/// More lines are read by nobody.
const LINE_LIMIT: usize = 30;

/// Who runs which version.
pub fn versions(mesh: &Mesh, own: &str, namespace: &str) -> Vec<Finding> {
    let area = Area::Versions;
    let versions: &Seen<_> = &mesh.versions;
    let versions = match versions {
        Ok(versions) => versions,
        Err(why) => return vec![unseen(area, "versions", why)],
    };
    let mut findings = vec![Finding::ok(area, format!("meshctl {own}"))];
    for (component, counts) in versions {
        for (version, count) in counts {
            let message = format!("{component} {version}: {count}");
            if version == own {
                findings.push(Finding::ok(area, message));
                continue;
            }
            let finding = Finding::warn(area, format!("{message}, and this meshctl is {own}"));
            findings.push(match component.as_str() {
                "proxy" => finding
                    .hint("pods get the injector's version when they are made anew")
                    .command("kubectl rollout restart deployment -n NAMESPACE"),
                _ => {
                    finding.command(format!("meshctl upgrade --mesh-namespace {namespace} --apply"))
                }
            });
        }
    }
    findings
}
