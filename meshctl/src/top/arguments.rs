//! The arguments of `meshctl top`.

use clap::Args;
use heddle_runtime::duration;

use crate::failure::Failure;
use crate::repeat;
use heddle_report::stat::{Subject, What};

use crate::stat::arguments::{not_found, parse};
use crate::traffic::Look;

/// `meshctl top`.
#[derive(Clone, Debug, Args)]
#[command(after_help = TOP_AFTER_HELP)]
pub struct TopArguments {
    /// What: deploy, sts, ds, job, pod, svc, backend, route, and which; or KIND/NAME [default: workloads of all kinds]
    #[arg(value_name = "RESOURCE")]
    pub resources: Vec<String>,
    /// By which column it is sorted at first
    #[arg(long, value_enum, default_value_t = Column::Rps)]
    pub sort: Column,
    /// How often to ask
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = repeat::interval)]
    pub interval: duration::Text,
    /// Print a table once, and end
    #[arg(long)]
    pub once: bool,
    /// How it is chosen and shown.
    #[command(flatten)]
    pub look: Look,
}

const TOP_AFTER_HELP: &str = "\
Examples:
  meshctl top                            workloads of the namespace
  meshctl top svc -A                     services of all namespaces
  meshctl top deploy/frontend deploy/api --window 5m
  meshctl top svc -o json                once, for machines; docs/stat.md has the fields

Keys:
  left, right, n, s, r   sort by another column: name, success, rps
  i                      the other way round
  /                      show only names with what is typed; Enter keeps it, Escape drops it
  space                  pause
  up, down, page keys    more rows
  q, Ctrl-C              quit; so does Escape, where there is no filter

LAST_5M and FAILED are the requests and failures of the last five minutes, ten seconds a place, on one scale within a
row. Without a terminal a table is printed whenever something changed. Counts are up to ten seconds old.

Which mesh is meant:
  --name, --admin-socket      one on this machine
  --context, --kubeconfig     one in a cluster; so does KUBECONFIG in the environment
  none of them                the local mesh, if one runs, and else the cluster of ~/.kube/config";

/// What rows can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Column {
    /// By name.
    Name,
    /// What fails most comes first.
    Success,
    /// The busiest comes first.
    Rps,
    /// The slowest comes first.
    P50,
    /// The slowest comes first.
    P95,
    /// The slowest comes first.
    P99,
}

/// What is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Of this kind.
    pub what: What,
    /// Only these; empty: all.
    pub names: Vec<String>,
}

impl TopArguments {
    /// What is meant: a kind and names, or several of one kind with it.
    pub fn choice(&self) -> Result<Choice, Failure> {
        choose(&self.resources)
    }
}

fn choose(resources: &[String]) -> Result<Choice, Failure> {
    let Some((first, others)) = resources.split_first() else {
        return Ok(Choice { what: What::Workloads(None), names: Vec::new() });
    };
    let Subject { what, name } = parse(first, None)?;
    let mut names: Vec<String> = name.iter().cloned().collect();
    for other in others {
        let parsed = if other.contains('/') { Some(parse(other, None)?) } else { None };
        match (parsed, &name) {
            (None, None) => names.push(other.clone()),
            (Some(Subject { what: its, name: Some(its_name) }), Some(_)) if its == what => {
                names.push(its_name);
            }
            (Some(_), Some(_)) => {
                return Err(Failure::new(
                    format!("\"{other}\" is of another kind than \"{first}\""),
                    "show one kind at a time; without a kind, workloads of all kinds are shown",
                ));
            }
            (None, Some(_)) | (Some(_), None) => {
                return Err(Failure::new(
                    format!("\"{first}\" and \"{other}\" name things in two ways"),
                    "name them in one: `meshctl top deploy/a deploy/b`, or `meshctl top deploy a b`",
                ));
            }
        }
    }
    Ok(Choice { what, names })
}

impl Choice {
    /// Why nothing is shown although there is traffic.
    pub fn not_found(&self) -> String {
        let name = (!self.names.is_empty()).then(|| self.names.join("\", \""));
        not_found(&Subject { what: self.what, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_of_one_kind_and_named_in_one_way() {
        let chosen = |typed: &[&str]| {
            let typed: Vec<String> = typed.iter().map(ToString::to_string).collect();
            choose(&typed).map_err(|failure| failure.to_string())
        };
        let deploy = What::Workloads(Some("Deployment"));
        for (typed, what, names) in [
            (&[][..], What::Workloads(None), &[][..]),
            (&["svc"], What::Services, &[]),
            (&["svc", "api", "web:80"], What::Services, &["api", "web:80"]),
            (&["deploy/api"], deploy, &["api"]),
            (&["deploy/api", "deployment/web"], deploy, &["api", "web"]),
        ] {
            let names = names.iter().map(ToString::to_string).collect();
            assert_eq!(chosen(typed), Ok(Choice { what, names }), "case: {typed:?}");
        }
        for (typed, expected) in [
            (&["node"][..], "ask for one of"),
            (&["deploy/api", "svc/web"], "another kind"),
            (&["deploy/api", "web"], "in two ways"),
            (&["deploy", "svc/web"], "in two ways"),
        ] {
            let error = chosen(typed).unwrap_err();
            assert!(error.contains(expected), "case: {typed:?}: {error}");
        }
    }
}
