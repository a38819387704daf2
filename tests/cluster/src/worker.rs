//! How the processes of every node are started, with the files that they read: containerd, the kubelet and kube-proxy.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::addresses;
use crate::cgroups;
use crate::component::{Plan, Ready};
use crate::directory::Directory;
use crate::image::PAUSE_IMAGE;

/// A node and where its things are, seen from inside.
#[derive(Clone, Debug)]
pub struct Worker {
    /// The cluster's files.
    pub directory: Directory,
    /// The folder with the Kubernetes programs.
    pub programs: PathBuf,
    /// Which node.
    pub number: u8,
}

impl Worker {
    /// The node's name.
    pub fn name(&self) -> String {
        format!("node{}", self.number)
    }

    /// The node's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.pki().join(format!("{}.kubeconfig", self.name()))
    }

    /// Runs containers.
    pub fn containerd(&self) -> Result<Plan> {
        let config = self.write("containerd.toml", &containerd_config())?;
        self.write("cni/net.d/10-pods.conflist", &network_config(self.number))?;
        Ok(Plan {
            name: "containerd",
            program: "containerd".into(),
            arguments: vec!["--config".to_owned(), config],
            ready: Ready::Socket(CONTAINERD_SOCKET.into()),
        })
    }

    /// Runs pods.
    pub fn kubelet(&self, open_files: u64) -> Result<Plan> {
        let config = self.write("kubelet.json", &self.kubelet_config(open_files).to_string())?;
        let number = self.number;
        Ok(Plan {
            name: "kubelet",
            program: self.programs.join("kubelet"),
            arguments: vec![
                format!("--config={config}"),
                format!("--kubeconfig={}", self.kubeconfig().display()),
                format!("--hostname-override={}", self.name()),
                format!("--node-ip={}", addresses::of_node(number)),
                format!(
                    "--node-labels=topology.kubernetes.io/region=region-1,topology.kubernetes.io/zone=zone-{number}"
                ),
            ],
            ready: Ready::Answers(SocketAddr::from(([127, 0, 0, 1], 10248)), "/healthz"),
        })
    }

    /// Makes services' addresses work.
    pub fn kube_proxy(&self) -> Result<Plan> {
        let kubeconfig = self.directory.pki().join("kube-proxy.kubeconfig");
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clusterCIDR": addresses::PODS,
            "hostnameOverride": self.name(),
            "clientConnection": {"kubeconfig": kubeconfig},
            // Neither is the node's own to change: the one needs a capability, the other is the whole machine's.
            "oomScoreAdj": 0,
            "conntrack": {"maxPerCore": 0},
        });
        let config = self.write("kube-proxy.json", &config.to_string())?;
        Ok(Plan {
            name: "kube-proxy",
            program: self.programs.join("kube-proxy"),
            arguments: vec![format!("--config={config}")],
            ready: Ready::Answers(SocketAddr::from(([127, 0, 0, 1], 10256)), "/livez"),
        })
    }

    fn kubelet_config(&self, open_files: u64) -> serde_json::Value {
        let pki = |file: String| self.directory.pki().join(file);
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": pki("ca.crt".to_owned())},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": pki(format!("{}-server.crt", self.name())),
            "tlsPrivateKeyFile": pki(format!("{}-server.key", self.name())),
            "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroups::of_node(&self.directory, self.number),
            "clusterDNS": [addresses::DNS_SERVICE],
            "clusterDomain": addresses::DOMAIN,
            "resolvConf": RESOLV_CONF,
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            "failCgroupV1": false,
            "failSwapOn": false,
            "oomScoreAdj": 0,
            "maxOpenFiles": open_files,
            // No program for iptables is needed where kube-proxy uses nftables.
            "makeIPTablesUtilChains": false,
            // The disk is the whole machine's, and full or not for reasons of its own. In octets: a hundredth of a
            // large disk is more than a node of ours ever writes, and a node under pressure takes no pod at all.
            "evictionHard": {
                "memory.available": "50Mi",
                "nodefs.available": "100Mi",
                "nodefs.inodesFree": "1%",
                "imagefs.available": "100Mi",
            },
            // An image that is collected cannot be had again.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
        })
    }

    /// Writes a file of the node's own /run, and says where it is.
    fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = Path::new(FOLDER).join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path.display().to_string())
    }
}

fn containerd_config() -> String {
    // JSON's strings and booleans are TOML's too. The restriction of scores is for a root that may not lower them.
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
sandbox_image = "{PAUSE_IMAGE}"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PROGRAMS}"
conf_dir = "{FOLDER}/cni/net.d"
"#
    )
}

/// Pods are connected to their node one by one, not by a bridge: so everything that a pod sends is routed, and is seen
/// by the rules for services' addresses, with no kernel module for bridges.
fn network_config(number: u8) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": format!("{FOLDER}/cni/addresses"),
                "ranges": [[{"subnet": addresses::pods_of_node(number)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
    .to_string()
}

/// The node's files that others read, in the node's own /run.
pub const FOLDER: &str = "/run/heddle";
/// Where containerd listens, in the node's own /run.
pub const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
/// What the node's own processes resolve names with: nothing, since there is nobody to ask.
pub const RESOLV_CONF: &str = "/run/heddle/resolv.conf";
/// Where Debian puts the programs that connect pods.
pub const CNI_PROGRAMS: &str = "/usr/lib/cni";
