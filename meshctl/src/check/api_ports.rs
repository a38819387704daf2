//! The ports of the API server: where it listens, and where the mesh's NetworkPolicies let it be asked.

use serde_json::Value;

use super::facts::{ApiPorts, Seen, Stage};
use crate::chart::kind::Kind;
use crate::chart::{files, values};
use crate::kubernetes::client::Cluster;
use crate::kubernetes::field;
use crate::kubernetes::objects::{Filter, resource};

/// Looks at the EndpointSlices of the Service `kubernetes`, and at the policies of control plane and injector.
pub async fn gather(cluster: &Cluster, stage: Stage) -> Seen<ApiPorts> {
    let slices = resource("discovery.k8s.io/v1", "EndpointSlice", "endpointslices");
    let labels = "kubernetes.io/service-name=kubernetes";
    let filter = Filter { namespace: Some("default"), labels, ..Filter::default() };
    let slices = cluster.list(&slices, filter).await.map_err(|failure| failure.headline())?;
    let allowed = match stage {
        Stage::Before => Some(by_default()?),
        Stage::After => {
            let namespace = Some(cluster.mesh_namespace.as_str());
            let filter = Filter { namespace, labels: OWN, ..Filter::default() };
            let policies = cluster.list(&Kind::NetworkPolicy.resource(), filter).await;
            by_policies(&policies.map_err(|failure| failure.headline())?)
        }
    };
    Ok(ApiPorts { real: real(&slices), allowed })
}

fn real(slices: &[Value]) -> Vec<u64> {
    let ports = slices.iter().flat_map(|slice| field::list(slice, "/ports"));
    let mut ports: Vec<u64> = ports.map(|port| field::number(port, "/port")).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// What the chart says where nobody else does.
fn by_default() -> Seen<Vec<u64>> {
    let defaults = values::read("values.yaml", files::VALUES).map_err(|error| error.to_string())?;
    let ports = field::list(&defaults, "/networkPolicy/apiServerPorts");
    Ok(ports.iter().filter_map(Value::as_u64).collect())
}

/// The ports that all of the policies let out to anywhere; `None`: there is no policy.
fn by_policies(policies: &[Value]) -> Option<Vec<u64>> {
    let mut all = policies.iter().map(|policy| {
        let anywhere =
            field::list(policy, "/spec/egress").iter().filter(|rule| rule["to"].is_null());
        let ports = anywhere.flat_map(|rule| field::list(rule, "/ports"));
        ports.filter_map(|port| port["port"].as_u64()).collect::<Vec<u64>>()
    });
    let first = all.next()?;
    Some(all.fold(first, |common, ports| {
        common.into_iter().filter(|port| ports.contains(port)).collect()
    }))
}

/// What is ours, whoever installed it.
const OWN: &str = "app.kubernetes.io/part-of=heddle";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_read_where_the_chart_writes_them() {
        let overrides = json!({"networkPolicy": {"apiServerPorts": [443, 7443]}});
        let manifests = crate::install::plan::manifests(&overrides, "mesh").unwrap();
        let policies = manifests.into_iter().filter(|one| one.kind == Kind::NetworkPolicy);
        let policies: Vec<Value> = policies.map(|manifest| manifest.object).collect();
        assert_eq!(policies.len(), 2);
        assert_eq!(by_policies(&policies), Some(vec![443, 7443, 53, 53]));
        assert_eq!(by_policies(&[]), None);
        assert_eq!(by_default(), Ok(vec![443, 6443]));
    }

    #[test]
    fn the_api_servers_ports_are_those_of_its_endpoints() {
        let slice = |port: u64| json!({"ports": [{"name": "https", "port": port}]});
        assert_eq!(real(&[slice(6443), slice(6443), slice(443)]), [443, 6443]);
    }
}
