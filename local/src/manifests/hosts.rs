//! What a workload's `/etc/hosts` says: the names of services, since there is no DNS server.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::pod::PodPlan;
use super::service::ServicePlan;

/// A service as names lead to it.
#[derive(Clone, Debug)]
pub struct NamedService<'a> {
    /// The service.
    pub service: &'a ServicePlan,
    /// The addresses of its ready pods.
    pub ready: Vec<IpAddr>,
}

/// The file for one pod.
///
/// A service's name stands for its virtual addresses, where the proxy takes over. Without a proxy nobody would answer
/// there: then, as for a headless service, it stands for the addresses of the ready pods, whose own ports are to be used.
pub fn hosts_file(pod: &PodPlan, services: &[NamedService<'_>]) -> String {
    let mut file = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    for address in pod.addresses.all() {
        line(&mut file, address, &[&pod.name.name]);
    }
    for NamedService { service, ready } in services {
        let (name, namespace) = (&service.name.name, &service.name.namespace);
        let mut names = vec![
            format!("{name}.{namespace}.svc.cluster.local"),
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}"),
        ];
        if *namespace == pod.name.namespace {
            names.push(name.clone());
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let virtual_addresses = pod.meshed && !service.addresses.is_empty();
        for address in if virtual_addresses { &service.addresses } else { ready } {
            line(&mut file, *address, &names);
        }
    }
    file
}

fn line(file: &mut String, address: IpAddr, names: &[&str]) {
    // Writing to a String does not fail.
    let _ = writeln!(file, "{address} {}", names.join(" "));
}
