//! The cluster's certificates and the kubeconfigs with them: who may say what to whom.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use crate::addresses;
use crate::directory::Directory;

/// Makes everything for a cluster of this many nodes.
pub fn create(directory: &Directory, nodes: u8) -> Result<()> {
    let folder = directory.pki();
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let cluster = Authority::create(&folder, "ca", "kubernetes")?;
    // Whoever has a certificate of this one may say who is calling; it must not be the one that users have.
    let front_proxy = Authority::create(&folder, "front-proxy-ca", "front-proxy")?;
    front_proxy.issue("front-proxy-client", &Subject::client("front-proxy-client", ""))?;
    let token_key = KeyPair::generate()?;
    write(&folder.join("service-account.key"), &token_key.serialize_pem())?;
    write(&folder.join("service-account.pub"), &token_key.public_key_pem())?;

    cluster.issue("api-server", &Subject::server("kube-apiserver", api_server_names()))?;
    cluster.issue("kubelet-client", &Subject::client("kube-apiserver", ADMINISTRATORS))?;
    let users = [
        ("admin", "kubernetes-admin", ADMINISTRATORS),
        ("kube-controller-manager", "system:kube-controller-manager", ""),
        ("kube-scheduler", "system:kube-scheduler", ""),
        ("kube-proxy", "system:kube-proxy", ""),
    ];
    for (name, user, group) in users {
        cluster.issue(name, &Subject::client(user, group))?;
        kubeconfig(&folder, name, &addresses::api_server(), &folder)?;
    }
    for number in 1..=nodes {
        let node = format!("node{number}");
        cluster.issue(&node, &Subject::client(&format!("system:node:{node}"), "system:nodes"))?;
        kubeconfig(&folder, &node, &addresses::api_server(), &folder)?;
        let names = vec![node.clone(), addresses::of_node(number).to_string()];
        cluster.issue(&format!("{node}-server"), &Subject::server(&node, names))?;
    }
    Ok(())
}

/// Writes the administrator's kubeconfig for this machine's own network namespace.
pub fn outer_kubeconfig(directory: &Directory, port: u16) -> Result<()> {
    let text = kubeconfig_text("admin", &format!("https://127.0.0.1:{port}"), &directory.pki())
        .to_string();
    write(&directory.kubeconfig(), &text)
}

fn kubeconfig(folder: &Path, name: &str, server: &str, pki: &Path) -> Result<()> {
    let path = folder.join(format!("{name}.kubeconfig"));
    write(&path, &kubeconfig_text(name, server, pki).to_string())
}

/// JSON, which is YAML too.
fn kubeconfig_text(name: &str, server: &str, pki: &Path) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "heddle", "cluster": {
            "server": server,
            "certificate-authority": pki.join("ca.crt"),
        }}],
        "users": [{"name": name, "user": {
            "client-certificate": pki.join(format!("{name}.crt")),
            "client-key": pki.join(format!("{name}.key")),
        }}],
        "contexts": [{"name": "heddle", "context": {"cluster": "heddle", "user": name}}],
        "current-context": "heddle",
    })
}

fn api_server_names() -> Vec<String> {
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        addresses::API_SERVICE.to_string(),
        addresses::of_node(addresses::FIRST_NODE).to_string(),
    ];
    let service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    names.extend(service.iter().map(ToString::to_string));
    names.push(format!("kubernetes.default.svc.{}", addresses::DOMAIN));
    names
}

struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// Whom a certificate is for. Kubernetes reads the user from the common name and the group from the organization.
struct Subject {
    name: String,
    group: String,
    names: Vec<String>,
    purpose: ExtendedKeyUsagePurpose,
}

impl Subject {
    fn client(name: &str, group: &str) -> Self {
        let purpose = ExtendedKeyUsagePurpose::ClientAuth;
        Self { name: name.to_owned(), group: group.to_owned(), names: Vec::new(), purpose }
    }

    fn server(name: &str, names: Vec<String>) -> Self {
        let purpose = ExtendedKeyUsagePurpose::ServerAuth;
        Self { name: name.to_owned(), group: String::new(), names, purpose }
    }
}

impl Authority {
    fn create(folder: &Path, file: &str, name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key)?;
        write(&folder.join(format!("{file}.crt")), &certificate.pem())?;
        write(&folder.join(format!("{file}.key")), &key.serialize_pem())?;
        Ok(Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) })
    }

    fn issue(&self, file: &str, subject: &Subject) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(subject.names.clone())?;
        params.distinguished_name.push(DnType::CommonName, subject.name.as_str());
        if !subject.group.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, subject.group.as_str());
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![subject.purpose.clone()];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        write(&self.folder.join(format!("{file}.crt")), &certificate.pem())?;
        write(&self.folder.join(format!("{file}.key")), &key.serialize_pem())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// The group that may do everything, whatever the roles say.
const ADMINISTRATORS: &str = "system:masters";
