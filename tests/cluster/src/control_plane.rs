//! How the processes of the control plane are started: etcd, the API server, the controllers and the scheduler.
//! Everything that a cluster made by the usual tools has switched on is on here.

use std::net::SocketAddr;
use std::path::Path;

use crate::addresses;
use crate::component::{Plan, Ready};
use crate::directory::Directory;

/// etcd, which forgets everything when the machine stops, as the cluster does.
pub fn etcd() -> Plan {
    let peer = "http://127.0.0.1:2380";
    let client = "http://127.0.0.1:2379";
    let arguments = [
        "--name=node1".to_owned(),
        "--data-dir=/var/lib/etcd".to_owned(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=node1={peer}"),
        "--unsafe-no-fsync".to_owned(),
        "--logger=zap".to_owned(),
    ];
    Plan {
        name: "etcd",
        program: "etcd".into(),
        arguments: arguments.into(),
        ready: Ready::Answers(SocketAddr::from(([127, 0, 0, 1], 2379)), "/health"),
    }
}

/// The API server.
pub fn api_server(programs: &Path, directory: &Directory) -> Plan {
    let pki = |file: &str| directory.pki().join(file).display().to_string();
    let node = addresses::of_node(addresses::FIRST_NODE);
    let arguments = vec![
        format!("--advertise-address={node}"),
        format!("--secure-port={}", addresses::API_PORT),
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--service-cluster-ip-range={}", addresses::SERVICES),
        "--allow-privileged=true".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--tls-cert-file={}", pki("api-server.crt")),
        format!("--tls-private-key-file={}", pki("api-server.key")),
        format!("--kubelet-certificate-authority={}", pki("ca.crt")),
        format!("--kubelet-client-certificate={}", pki("kubelet-client.crt")),
        format!("--kubelet-client-key={}", pki("kubelet-client.key")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--requestheader-client-ca-file={}", pki("front-proxy-ca.crt")),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        format!("--proxy-client-cert-file={}", pki("front-proxy-client.crt")),
        format!("--proxy-client-key-file={}", pki("front-proxy-client.key")),
        format!("--service-account-issuer=https://kubernetes.default.svc.{}", addresses::DOMAIN),
        format!("--service-account-key-file={}", pki("service-account.pub")),
        format!("--service-account-signing-key-file={}", pki("service-account.key")),
    ];
    Plan {
        name: "kube-apiserver",
        program: programs.join("kube-apiserver"),
        arguments,
        ready: Ready::ApiServer(directory.inner_kubeconfig()),
    }
}

/// The controllers. There is one of them, which need not ask for leadership.
pub fn controller_manager(programs: &Path, directory: &Directory) -> Plan {
    let pki = |file: &str| directory.pki().join(file).display().to_string();
    let mut arguments = as_itself("kube-controller-manager", directory);
    arguments.extend([
        format!("--root-ca-file={}", pki("ca.crt")),
        format!("--cluster-signing-cert-file={}", pki("ca.crt")),
        format!("--cluster-signing-key-file={}", pki("ca.key")),
        format!("--service-account-private-key-file={}", pki("service-account.key")),
        format!("--requestheader-client-ca-file={}", pki("front-proxy-ca.crt")),
        "--use-service-account-credentials=true".to_owned(),
        "--controllers=*,bootstrapsigner,tokencleaner".to_owned(),
    ]);
    Plan {
        name: "kube-controller-manager",
        program: programs.join("kube-controller-manager"),
        arguments,
        ready: Ready::Listens(SocketAddr::from(([127, 0, 0, 1], 10257))),
    }
}

/// The scheduler.
pub fn scheduler(programs: &Path, directory: &Directory) -> Plan {
    Plan {
        name: "kube-scheduler",
        program: programs.join("kube-scheduler"),
        arguments: as_itself("kube-scheduler", directory),
        ready: Ready::Listens(SocketAddr::from(([127, 0, 0, 1], 10259))),
    }
}

fn as_itself(name: &str, directory: &Directory) -> Vec<String> {
    let kubeconfig = directory.pki().join(format!("{name}.kubeconfig"));
    let kubeconfig = kubeconfig.display();
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--leader-elect=false".to_owned(),
    ]
}
