//! What facts mean: one line each. Pure.

pub mod cluster;
pub mod mesh;

use std::time::SystemTime;

use super::facts::{Facts, Stage};
use super::finding::{Area, Finding};

/// All findings, area by area.
pub fn all(facts: &Facts, now: SystemTime) -> Vec<Finding> {
    let mut findings = cluster::api(&facts.api);
    findings.extend(cluster::api_ports(&facts.api_ports, facts.stage, &facts.namespace));
    findings.extend(cluster::nodes(&facts.nodes));
    findings.extend(cluster::permissions(&facts.permissions, facts.stage));
    findings.extend(cluster::definitions(&facts.definitions, facts.stage, &facts.namespace));
    findings.extend(cluster::clocks(&facts.api, &facts.nodes));
    findings.extend(cluster::meshes(&facts.meshes, facts.stage, &facts.namespace));
    if let (Stage::After, Some(mesh)) = (facts.stage, &facts.mesh) {
        let namespace = facts.namespace.as_str();
        findings.extend(mesh::deployments(mesh, namespace));
        findings.extend(mesh::certificates(mesh, namespace, now));
        findings.extend(mesh::webhook(mesh, namespace));
        findings.extend(mesh::coverage(mesh));
        findings.extend(mesh::pod_security(mesh));
        findings.extend(mesh::versions(mesh, &facts.own_version, namespace));
    }
    findings.sort_by_key(|finding| finding.area);
    findings
}

/// Something that could not be seen: why, and what it takes to see it.
fn unseen(area: Area, what: &str, why: &str) -> Finding {
    Finding::warn(area, format!("{what} could not be looked at: {why}"))
}

#[cfg(test)]
mod tests;
