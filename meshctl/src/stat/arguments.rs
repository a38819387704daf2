//! The arguments of `meshctl stat`: which kind of thing is meant, and which of them.

use clap::Args;
use heddle_report::stat::{Subject, What};

use crate::failure::Failure;
use crate::repeat::Watch;
use crate::traffic::Look;

/// `meshctl stat`.
#[derive(Clone, Debug, Args)]
#[command(after_help = STAT_AFTER_HELP)]
pub struct StatArguments {
    /// What: deploy, sts, ds, job, pod, svc, backend, route, or KIND/NAME [default: workloads of all kinds]
    #[arg(value_name = "KIND")]
    pub kind: Option<String>,
    /// Only this one
    // The option `--name` is a local mesh's.
    #[arg(id = "object", value_name = "NAME")]
    pub name: Option<String>,
    /// How it is chosen and shown.
    #[command(flatten)]
    pub look: Look,
    /// Whether it is shown again and again.
    #[command(flatten)]
    pub watch: Watch,
}

const STAT_AFTER_HELP: &str = "\
Examples:
  meshctl stat                        workloads of the namespace
  meshctl stat svc -A --window 10m    services of all namespaces, over ten minutes
  meshctl stat route/canary -o json   for machines; docs/stat.md has the fields

Workloads and pods are counted by their own proxies, all else by the proxies of those who ask. Percentiles are of the
merged histograms, within five percent. Counts are up to ten seconds old.

Which mesh is meant:
  --name, --admin-socket      one on this machine
  --context, --kubeconfig     one in a cluster; so does KUBECONFIG in the environment
  none of them                the local mesh, if one runs, and else the cluster of ~/.kube/config";

impl StatArguments {
    /// What is meant.
    pub fn subject(&self) -> Result<Subject, Failure> {
        match &self.kind {
            None => Ok(Subject { what: What::Workloads(None), name: None }),
            Some(kind) => parse(kind, self.name.as_deref()),
        }
    }
}

/// A kind and perhaps a name, in one word or in two.
pub fn parse(kind: &str, name: Option<&str>) -> Result<Subject, Failure> {
    let (kind, name) = match (kind.split_once('/'), name) {
        (None, name) => (kind, name.map(str::to_owned)),
        (Some((kind, name)), None) if !name.is_empty() => (kind, Some(name.to_owned())),
        (Some(_), _) => {
            return Err(Failure::new(
                format!("\"{kind}\" names nothing, or there is one name too many"),
                "name it once: `deploy/api`, or `deploy api`",
            ));
        }
    };
    let found = KINDS.iter().find(|(names, _)| names.contains(&kind.to_lowercase().as_str()));
    let (_, what) = found.ok_or_else(|| {
        let kinds = KINDS.iter().filter_map(|(names, _)| names.first().copied());
        Failure::new(
            format!("nothing is counted of \"{kind}\""),
            format!("ask for one of {}", kinds.collect::<Vec<_>>().join(", ")),
        )
    })?;
    Ok(Subject { what: *what, name })
}

/// Why nothing is shown although there is traffic.
pub fn not_found(subject: &Subject) -> String {
    match (&subject.name, subject.what) {
        (Some(name), what) => format!(
            "there is no {} \"{name}\" among those that are known; without a name all are listed",
            what.noun()
        ),
        (None, What::Workloads(Some(kind))) => {
            format!("there is no {kind}; `meshctl stat` lists workloads of all kinds")
        }
        (None, what) => format!("there is no {}", what.noun()),
    }
}

/// Names of kinds, as in kubectl; the first is told.
const KINDS: [(&[&str], What); 11] = [
    (&["workload", "workloads", "all"], What::Workloads(None)),
    (&["deploy", "deployment", "deployments"], What::Workloads(Some("Deployment"))),
    (&["sts", "statefulset", "statefulsets"], What::Workloads(Some("StatefulSet"))),
    (&["ds", "daemonset", "daemonsets"], What::Workloads(Some("DaemonSet"))),
    (&["job", "jobs"], What::Workloads(Some("Job"))),
    (&["rs", "replicaset", "replicasets"], What::Workloads(Some("ReplicaSet"))),
    (&["rollout", "rollouts"], What::Workloads(Some("Rollout"))),
    (&["pod", "pods", "po"], What::Pods),
    (&["svc", "service", "services"], What::Services),
    (&["backend", "backends"], What::Backends),
    (&["route", "routes", "httproute", "httproutes", "grpcroute", "grpcroutes"], What::Routes),
];

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        stat: StatArguments,
    }

    fn subject(arguments: &[&str]) -> Result<Subject, String> {
        let line = Line::try_parse_from([&["stat"], arguments].concat()).unwrap();
        line.stat.subject().map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_subject_is_a_kind_and_perhaps_a_name() {
        let named = |what, name: &str| Ok(Subject { what, name: Some(name.to_owned()) });
        let all = |what| Ok(Subject { what, name: None });
        for (arguments, expected) in [
            (&[][..], all(What::Workloads(None))),
            (&["deploy"], all(What::Workloads(Some("Deployment")))),
            (&["Deployment/api"], named(What::Workloads(Some("Deployment")), "api")),
            (&["po", "api-1"], named(What::Pods, "api-1")),
            (&["svc"], all(What::Services)),
            (&["httproute/canary"], named(What::Routes, "canary")),
        ] {
            assert_eq!(subject(arguments), expected, "case: {arguments:?}");
        }
        for (arguments, expected) in [
            (&["node"][..], "ask for one of workload, deploy,"),
            (&["svc/"], "names nothing"),
            (&["svc/a", "b"], "one name too many"),
        ] {
            let error = subject(arguments).unwrap_err();
            assert!(error.contains(expected), "case: {arguments:?}: {error}");
        }
    }
}
