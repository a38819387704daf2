//! What one pod's proxy runs with: what the pod asks for, and the mesh's settings for the rest.

use std::time::Duration;

use heddle_model::access_log::AccessLog;
use heddle_runtime::duration;
use k8s_openapi::api::core::v1::Pod;

use crate::annotations::invalid::InvalidAnnotation;
use crate::annotations::{
    CPU_LIMIT, CPU_REQUEST, DRAIN_GRACE, MEMORY_LIMIT, MEMORY_REQUEST, ProxySettings, WORKERS_LIMIT,
};
use crate::owner::owner;
use crate::quantity::Quantity;
use crate::settings::{MeshSettings, Share};

/// What a pod's proxy runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// What the pod asks for.
    pub settings: ProxySettings,
    /// What made the pod, for telemetry.
    pub owner: Option<String>,
    /// What it logs.
    pub log: String,
    /// What it writes down of requests and connections, until the pod says otherwise.
    pub access_log: AccessLog,
    /// How long connections may take to finish; below the pod's own grace period.
    pub drain_grace: Duration,
    /// Of CPU.
    pub cpu: Share,
    /// How many threads carry traffic: as many as the limit of CPU has whole processors, and one without a limit.
    pub workers: u64,
    /// Of memory.
    pub memory: Share,
}

impl Proxy {
    /// Puts the pod's settings before the mesh's. What contradicts itself is refused.
    pub fn new(
        pod: &Pod,
        settings: ProxySettings,
        mesh: &MeshSettings,
    ) -> Result<Self, Vec<InvalidAnnotation>> {
        let mut invalid = Vec::new();
        let mut share = |request: (&'static str, &Option<Quantity>), limit, of_mesh: &Share| {
            merge(request, limit, of_mesh).unwrap_or_else(|error| {
                invalid.push(error);
                of_mesh.clone()
            })
        };
        let cpu = share(
            (CPU_REQUEST, &settings.cpu_request),
            (CPU_LIMIT, &settings.cpu_limit),
            &mesh.cpu,
        );
        let memory = share(
            (MEMORY_REQUEST, &settings.memory_request),
            (MEMORY_LIMIT, &settings.memory_limit),
            &mesh.memory,
        );
        let drain_grace = drain_grace(pod, settings.drain_grace, mesh.drain_grace);
        let drain_grace = drain_grace.unwrap_or_else(|error| {
            invalid.push(error);
            mesh.drain_grace
        });
        if !invalid.is_empty() {
            return Err(invalid);
        }
        let log = settings.log.clone().unwrap_or_else(|| mesh.log.clone());
        let access_log = settings.access_log.or(mesh.access_log);
        let of_limit = cpu.limit.as_ref().map_or(1, |limit| limit.whole().clamp(1, WORKERS_LIMIT));
        let workers = settings.workers.unwrap_or(of_limit);
        Ok(Self { settings, owner: owner(pod), log, access_log, drain_grace, cpu, workers, memory })
    }
}

/// A pod that sets one of the two has the mesh's other one, unless they contradict: a request of the
/// mesh yields to a limit of the pod, but a limit is not lifted without a word.
fn merge(
    (request_name, request): (&str, &Option<Quantity>),
    (limit_name, limit): (&str, &Option<Quantity>),
    of_mesh: &Share,
) -> Result<Share, InvalidAnnotation> {
    let limit = limit.clone().or_else(|| of_mesh.limit.clone());
    let fits = |request: &Quantity| limit.as_ref().is_none_or(|limit| limit.is_at_least(request));
    let request = match request {
        Some(own) if !fits(own) => {
            let limit = limit.as_ref().map(ToString::to_string).unwrap_or_default();
            let want = format!("at most its limit {limit}, or a higher {limit_name}");
            return Err(InvalidAnnotation::value(request_name, &own.to_string(), want));
        }
        Some(own) => Some(own.clone()),
        None => match &of_mesh.request {
            Some(request) if !fits(request) => limit.clone(),
            other => other.clone(),
        },
    };
    Ok(Share { request, limit })
}

/// A native sidecar is told to end once the others have, in what is left of the pod's grace period;
/// after that it is killed.
fn drain_grace(
    pod: &Pod,
    asked: Option<Duration>,
    of_mesh: Duration,
) -> Result<Duration, InvalidAnnotation> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    let of_pod = of_pod.map_or(DEFAULT_GRACE_PERIOD, |seconds| {
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    });
    match asked {
        Some(asked) if asked > of_pod => {
            let want = format!(
                "at most the pod's terminationGracePeriodSeconds, which are {}",
                of_pod.as_secs()
            );
            let text = duration::Text(asked).to_string();
            Err(InvalidAnnotation::value(DRAIN_GRACE, &text, want))
        }
        Some(asked) => Ok(asked),
        None => Ok(of_mesh.min(of_pod.saturating_sub(END_MARGIN))),
    }
}

/// What Kubernetes sets where nothing is said.
const DEFAULT_GRACE_PERIOD: Duration = Duration::from_secs(30);
/// What the proxy needs to end by itself, once it has drained.
const END_MARGIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings;

    fn pod(grace: Option<i64>) -> Pod {
        let object = json!({"metadata": {}, "spec": {"containers": [], "terminationGracePeriodSeconds": grace}});
        serde_json::from_value(object).unwrap()
    }

    fn memory(text: &str) -> Option<Quantity> {
        Some(Quantity::memory(text).unwrap())
    }

    #[test]
    fn a_pod_goes_before_the_mesh() {
        let mesh = settings::tests::mesh();
        let proxy = |settings| Proxy::new(&pod(None), settings, &mesh);
        let plain = proxy(ProxySettings::default()).unwrap();
        assert_eq!((plain.log.as_str(), &plain.memory), ("info", &mesh.memory));
        let lower = ProxySettings { memory_limit: memory("24Mi"), ..ProxySettings::default() };
        let memory_of = proxy(lower).unwrap().memory;
        assert_eq!(memory_of, Share { request: memory("24Mi"), limit: memory("24Mi") });
        let greedy = ProxySettings { memory_request: memory("2Gi"), ..ProxySettings::default() };
        let error = proxy(greedy).unwrap_err();
        assert_eq!(
            error[0].to_string(),
            "heddle.dev/proxy-memory-request: \"2Gi\" will not do (want at most its limit 256Mi, or a \
             higher heddle.dev/proxy-memory-limit)"
        );
    }

    #[test]
    fn there_are_as_many_workers_as_whole_processors_unless_the_pod_says_otherwise() {
        let mesh = settings::tests::mesh();
        for (case, limit, asked, expected) in [
            ("no limit", None, None, 1),
            ("half a processor", Some("500m"), None, 1),
            ("one and a half", Some("1500m"), None, 1),
            ("four", Some("4"), None, 4),
            ("very many", Some("1k"), None, WORKERS_LIMIT),
            ("asked for, with a limit", Some("4"), Some(2), 2),
            ("asked for, without one", None, Some(3), 3),
        ] {
            let cpu_limit = limit.map(|limit| Quantity::cpu(limit).unwrap());
            let settings = ProxySettings { cpu_limit, workers: asked, ..ProxySettings::default() };
            let found = Proxy::new(&pod(None), settings, &mesh).unwrap().workers;
            assert_eq!(found, expected, "case: {case}");
        }
    }

    #[test]
    fn a_drain_ends_before_the_pods_grace_period() {
        let seconds = Duration::from_secs;
        for (case, grace, asked, expected) in [
            ("by default", None, None, Some(28)),
            ("a long one", Some(600), None, Some(30)),
            ("a short one", Some(5), None, Some(3)),
            ("none", Some(0), None, Some(0)),
            ("a strange one", Some(-1), None, Some(0)),
            ("as asked", Some(60), Some(60), Some(60)),
            ("too long", Some(30), Some(31), None),
        ] {
            let found = drain_grace(&pod(grace), asked.map(seconds), seconds(30)).ok();
            assert_eq!(found, expected.map(seconds), "case: {case}");
        }
    }
}
