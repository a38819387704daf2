//! What runs in a local mesh, for people. Pure.

use std::fmt::Write as _;

use heddle_local::status::{LocalStatus, ProcessStatus, ServiceStatus, WorkloadStatus};

use crate::output::{Colour, Page};
use crate::table::{self, Cell};

/// The whole text.
pub fn text(status: &LocalStatus, page: Page) -> String {
    let colour = page.colour;
    let mut text = format!("{}  from {}\n", colour.bold(&status.name), status.directory.display());
    let plane = if status.control_plane.running {
        colour.good(&status.control_plane.state)
    } else {
        colour.bad(&status.control_plane.state)
    };
    let _ = writeln!(text, "control plane  {plane}{}", restarts(&status.control_plane));
    let row = |workload: &WorkloadStatus| {
        let mut row = workload_row(workload);
        if page.wide {
            let processes = workload.processes.iter().map(|process| process.name.as_str());
            row.push(Cell::plain(processes.collect::<Vec<_>>().join(",")));
        }
        row
    };
    let workloads: Vec<_> = status.workloads.iter().map(row).collect();
    text.push('\n');
    let mut header = vec!["WORKLOAD", "READY", "MESHED", "ADDRESS", "RESTARTS", "STATE"];
    if page.wide {
        header.push("PROCESSES");
    }
    text.push_str(&table::of_page(&header, &workloads, page));
    if !status.services.is_empty() {
        let services: Vec<_> = status.services.iter().map(service_row).collect();
        text.push('\n');
        text.push_str(&table::of_page(&["SERVICE", "ADDRESS", "PORTS", "READY"], &services, page));
    }
    if !status.problems.is_empty() {
        text.push('\n');
        text.push_str(&problems(status, colour));
    }
    text
}

/// What whoever has just started it should know besides; empty when all is well. `meshctl` is what it is called as.
pub fn warnings(status: &LocalStatus, meshctl: &str) -> String {
    if !status.problems.is_empty() {
        return format!(
            "{}`{meshctl} status --name {}` shows what the mesh itself refuses\n",
            problems(status, Colour::Never),
            status.name,
        );
    }
    if status.workloads.is_empty() {
        return format!(
            "warning: nothing to run in {}: no Pod in any .yaml, .yml or .json file; \
             try `{meshctl} local up install/examples/shop`\n",
            status.directory.display(),
        );
    }
    String::new()
}

/// Whether something of the directory does not run at all, of a mesh that has just started: what cannot be read names
/// no object, and had no good version before.
pub fn leaves_out(status: &LocalStatus) -> bool {
    status.problems.iter().any(|problem| problem.blocking || problem.object.is_empty())
}

fn problems(status: &LocalStatus, colour: Colour) -> String {
    let mut text = format!("{}\n", colour.bad("cannot be run here"));
    for problem in &status.problems {
        let _ = writeln!(text, "  {problem}");
    }
    text
}

/// Whether nobody needs to look at it: ready, or done with its work, or on its way out.
pub fn is_as_wanted(workload: &WorkloadStatus) -> bool {
    workload.ready || workload.complete || workload.ending
}

fn workload_row(workload: &WorkloadStatus) -> Vec<Cell> {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let ready = match (workload.ready, is_as_wanted(workload)) {
        (true, _) => Cell::good("yes"),
        (false, true) => Cell::plain("no"),
        (false, false) => Cell::bad("no"),
    };
    let restarts: u32 = workload.processes.iter().map(|process| process.restarts).sum();
    let address = workload.addresses.first().map(ToString::to_string).unwrap_or_default();
    vec![
        Cell::plain(format!("{}/{}", workload.namespace, workload.name)),
        ready,
        Cell::plain(yes(workload.meshed)),
        Cell::plain(address),
        Cell::plain(restarts.to_string()),
        Cell::plain(&workload.state),
    ]
}

fn service_row(service: &ServiceStatus) -> Vec<Cell> {
    let address =
        service.addresses.first().map_or_else(|| "headless".to_owned(), ToString::to_string);
    let ports: Vec<_> = service
        .ports
        .iter()
        .map(|port| match port.name.as_str() {
            "" => port.port.to_string(),
            name => format!("{}/{name}", port.port),
        })
        .collect();
    vec![
        Cell::plain(format!("{}/{}", service.namespace, service.name)),
        Cell::plain(address),
        Cell::plain(ports.join(", ")),
        Cell::plain(service.ready_endpoints.to_string()),
    ]
}

fn restarts(process: &ProcessStatus) -> String {
    match process.restarts {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        times => format!(", restarted {times} times"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use heddle_local::status::{Problem, ServicePortStatus};

    use super::*;

    fn process(name: &str, restarts: u32) -> ProcessStatus {
        ProcessStatus {
            name: name.to_owned(),
            running: true,
            pid: Some(7),
            restarts,
            state: "running".to_owned(),
            log: PathBuf::from("logs").join(name),
        }
    }

    #[test]
    fn what_runs_reads_at_a_glance() {
        let workload = |name: &str, ready: bool, state: &str| WorkloadStatus {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            pod_uid: format!("uid-{name}"),
            addresses: vec!["10.42.0.2".parse().unwrap(), "fd42::2".parse().unwrap()],
            meshed: true,
            ready,
            complete: false,
            ending: false,
            state: state.to_owned(),
            processes: vec![process("proxy", 0), process("app", u32::from(!ready))],
            logs: vec![],
        };
        let status = LocalStatus {
            name: "shop".to_owned(),
            directory: "install/examples/shop".into(),
            workloads: vec![
                workload("api-v1", true, "running"),
                workload("store", false, "waiting for port 9000"),
            ],
            services: vec![ServiceStatus {
                namespace: "default".to_owned(),
                name: "api".to_owned(),
                addresses: vec!["10.43.0.2".parse().unwrap()],
                ports: vec![ServicePortStatus { name: "http".to_owned(), port: 8080 }],
                ready_endpoints: 1,
            }],
            control_plane: process("control-plane", 0),
            problems: vec![Problem {
                file: "x.yaml".into(),
                object: "Pod default/x".to_owned(),
                field: "spec.containers[0].command".to_owned(),
                message: "no command; name one".to_owned(),
                blocking: true,
            }],
        };
        insta::assert_snapshot!(text(&status, Page::USUAL));
    }

    #[test]
    fn whoever_starts_it_is_told_what_does_not_run() {
        let mut status = LocalStatus {
            name: "shop".to_owned(),
            directory: "yaml".into(),
            workloads: vec![],
            services: vec![],
            control_plane: process("control-plane", 0),
            problems: vec![],
        };
        insta::assert_snapshot!(warnings(&status, "meshctl"), @"warning: nothing to run in yaml: no Pod in any .yaml, .yml or .json file; try `meshctl local up install/examples/shop`");
        assert!(!leaves_out(&status));
        status.problems.push(Problem {
            file: "api.yaml".into(),
            object: String::new(),
            field: String::new(),
            message: "document 2 is not YAML".to_owned(),
            blocking: false,
        });
        assert!(leaves_out(&status));
        insta::assert_snapshot!(warnings(&status, "meshctl"), @"
        cannot be run here
          api.yaml: document 2 is not YAML
        `meshctl status --name shop` shows what the mesh itself refuses
        ");
    }
}
