//! What is said of clusters and meshes that are well, and of others.

use std::collections::BTreeMap;
use std::time::Duration;

use heddle_injector::report::{Finding as Told, FindingKind, PodReference};

use super::*;
use crate::check::facts::{
    Api, ApiPorts, Certificate, Coverage, Definition, Mesh, Node, PodSecurity, Probe, Webhook,
};
use crate::check::finding::Level;
use crate::check::permissions;
use crate::check::render;
use crate::install::rollout::Progress;
use crate::output::Colour;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 3600)
}

fn certificate(age_days: u64, left_days: u64) -> Certificate {
    Certificate {
        subject: "CN=heddle".to_owned(),
        from: now() - days(age_days),
        until: now() + days(left_days),
    }
}

fn node(name: &str, kernel: &str, renewed_ago: i64) -> Node {
    let by = Duration::from_secs(renewed_ago.unsigned_abs());
    let renewed = if renewed_ago < 0 { now() + by } else { now() - by };
    Node {
        name: name.to_owned(),
        kernel: kernel.to_owned(),
        system: "linux".to_owned(),
        renewed: Some(renewed),
    }
}

fn definition(name: &str, served: &[&str]) -> Definition {
    Definition {
        name: name.to_owned(),
        served: served.iter().map(|version| (*version).to_owned()).collect(),
    }
}

fn well() -> Facts {
    let mut versions: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for (component, count) in [("control-plane", 3), ("injector", 2), ("proxy", 41)] {
        versions.insert(component.to_owned(), [("0.1.0".to_owned(), count)].into());
    }
    Facts {
        stage: Stage::After,
        namespace: "heddle-system".to_owned(),
        own_version: "0.1.0".to_owned(),
        api: Ok(Api {
            address: "https://10.0.0.1:6443/".to_owned(),
            version: "v1.34.4".to_owned(),
            time: Some(now()),
            asked: now() + Duration::from_secs(1),
        }),
        nodes: Ok(vec![node("one", "6.1.0-31-amd64", 4), node("two", "5.15.0", 9)]),
        permissions: Ok(granted(Stage::After)),
        definitions: Ok(vec![
            definition("httproutes.gateway.networking.k8s.io", &["v1", "v1beta1"]),
            definition("grpcroutes.gateway.networking.k8s.io", &["v1"]),
            definition("tlsroutes.gateway.networking.k8s.io", &["v1alpha3"]),
            definition("tcproutes.gateway.networking.k8s.io", &[]),
            definition("referencegrants.gateway.networking.k8s.io", &["v1beta1"]),
            definition("trafficpolicies.heddle.dev", &["v1alpha1"]),
        ]),
        api_ports: Ok(ApiPorts { real: vec![6443], allowed: Some(vec![443, 6443]) }),
        meshes: Ok(vec!["heddle-system".to_owned()]),
        mesh: Some(Mesh {
            deployments: Ok(vec![
                ("heddle-control-plane".to_owned(), Progress::Ready),
                ("heddle-injector".to_owned(), Progress::Ready),
            ]),
            complaints: Vec::new(),
            certificates: vec![
                (mesh::TRUST_ANCHORS.to_owned(), Ok(vec![certificate(30, 3620)])),
                (mesh::ISSUER.to_owned(), Ok(vec![certificate(30, 335)])),
                (mesh::SERVING.to_owned(), Ok(vec![certificate(30, 60)])),
            ],
            webhook: Ok(Webhook {
                bundles: vec![("inject.heddle.dev".to_owned(), Vec::from(CERTIFICATE))],
                failure_policy: "Ignore".to_owned(),
                authority: Ok(Vec::from(CERTIFICATE)),
            }),
            probe: Probe::Injected,
            coverage: Ok(Coverage {
                meshed: 41,
                complaints: Vec::new(),
                findings: Vec::new(),
                forbidden: Vec::new(),
            }),
            versions: Ok(versions),
        }),
    }
}

fn granted(stage: Stage) -> Vec<(permissions::Permission, bool)> {
    let needed = permissions::needed(stage, "heddle-system");
    needed.into_iter().map(|permission| (permission, true)).collect()
}

fn ill() -> Facts {
    let mut facts = well();
    facts.api = Ok(Api {
        address: "https://10.0.0.1:6443/".to_owned(),
        version: "v1.28.1".to_owned(),
        time: Some(now()),
        asked: now() - Duration::from_secs(90),
    });
    facts.nodes =
        Ok(vec![node("old", "4.19.0", 3), node("ahead", "6.1.0", -30), node("gone", "6.1.0", 600)]);
    if let Ok(permissions) = &mut facts.permissions {
        permissions[0].1 = false;
    }
    facts.api_ports = Ok(ApiPorts { real: vec![7443], allowed: Some(vec![443, 6443]) });
    facts.definitions = Ok(vec![definition("httproutes.gateway.networking.k8s.io", &["v2"])]);
    let mesh = facts.mesh.as_mut().unwrap();
    mesh.deployments = Ok(vec![(
        "heddle-injector".to_owned(),
        Progress::Pending("0 of 1 replicas are available".to_owned()),
    )]);
    mesh.complaints = vec![
        "pod heddle-injector-1, container injector: ImagePullBackOff: no such image".to_owned(),
    ];
    mesh.certificates = vec![
        (mesh::TRUST_ANCHORS.to_owned(), Ok(vec![certificate(3600, 50), certificate(10, 3640)])),
        (mesh::ISSUER.to_owned(), Ok(vec![certificate(360, 5)])),
        (mesh::SERVING.to_owned(), Err("secrets \"heddle-injector-tls\" is forbidden".to_owned())),
    ];
    mesh.webhook = Ok(Webhook {
        bundles: vec![("inject.heddle.dev".to_owned(), Vec::new())],
        failure_policy: "Fail".to_owned(),
        authority: Err("forbidden".to_owned()),
    });
    mesh.probe = Probe::NotInjected;
    let pod = PodReference { name: "api-1".to_owned(), uid: String::new() };
    let missing = Told { namespace: "shop".to_owned(), pod: Some(pod), kind: FindingKind::Missing };
    mesh.coverage = Ok(Coverage {
        meshed: 4,
        complaints: vec!["shop: pod web-1, container heddle-redirect: CrashLoopBackOff".to_owned()],
        findings: vec![missing],
        forbidden: vec![("shop".to_owned(), PodSecurity::Restricted)],
    });
    let versions = mesh.versions.as_mut().unwrap();
    versions.insert("proxy".to_owned(), [("0.0.9".to_owned(), 4), ("0.1.0".to_owned(), 2)].into());
    facts
}

#[test]
fn a_mesh_that_is_well_is_said_to_be() {
    let findings = all(&well(), now());
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
    insta::assert_snapshot!(render::text(&findings, Colour::Never));
}

#[test]
fn what_is_wrong_is_said_with_what_would_do() {
    insta::assert_snapshot!(render::text(&all(&ill(), now()), Colour::Never));
}

#[test]
fn a_cluster_is_looked_at_before_anything_is_installed() {
    let facts = Facts {
        stage: Stage::Before,
        permissions: Ok(granted(Stage::Before)),
        definitions: Ok(Vec::new()),
        meshes: Ok(Vec::new()),
        mesh: None,
        ..well()
    };
    insta::assert_snapshot!(render::text(&all(&facts, now()), Colour::Never));
}

#[test]
fn what_cannot_be_seen_does_not_hide_the_rest() {
    let no = || Err("forbidden".to_owned());
    let facts = Facts {
        nodes: Err("forbidden".to_owned()),
        permissions: Err("forbidden".to_owned()),
        definitions: Err("forbidden".to_owned()),
        meshes: no(),
        ..well()
    };
    let findings = all(&facts, now());
    let warned = findings.iter().filter(|finding| finding.level == Level::Warn).count();
    assert_eq!(warned, 4, "{findings:#?}");
    assert!(findings.iter().all(|finding| finding.level != Level::Fail), "{findings:#?}");
    let silent = Facts { api: Err("connection refused".to_owned()), ..well() };
    assert_eq!(all(&silent, now())[0].level, Level::Fail);
}

#[test]
fn the_gateway_api_that_is_recommended_is_the_one_that_is_tested() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/cluster/conformance/go.mod");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    let tested =
        manifest.lines().find_map(|line| line.trim().strip_prefix("sigs.k8s.io/gateway-api "));
    let facts = Facts { definitions: Ok(Vec::new()), ..well() };
    let findings = all(&facts, now());
    let mut commands = findings.iter().filter_map(|finding| finding.command.as_deref());
    let command = commands.find(|command| command.contains("gateway-api")).unwrap();
    assert!(command.contains(&format!("/download/{}/", tested.unwrap())), "{command}");
}

type Spoil = fn(&mut Facts);

fn of_mesh(facts: &mut Facts) -> &mut Mesh {
    facts.mesh.as_mut().unwrap()
}

const TROUBLES: [(&str, Spoil, Area, Level); 12] = [
    (
        "old API server",
        |f| f.api.as_mut().unwrap().version = "v1.20.2".to_owned(),
        Area::Api,
        Level::Fail,
    ),
    ("odd version", |f| f.api.as_mut().unwrap().version = "new".to_owned(), Area::Api, Level::Warn),
    (
        "old kernel",
        |f| f.nodes.as_mut().unwrap()[0].kernel = "5.1.9".to_owned(),
        Area::Nodes,
        Level::Fail,
    ),
    ("mesh elsewhere", |f| f.meshes = Ok(vec!["other".to_owned()]), Area::Workloads, Level::Fail),
    (
        "no definition of ours",
        |f| f.definitions.as_mut().unwrap().retain(|one| !one.name.ends_with(".heddle.dev")),
        Area::Definitions,
        Level::Fail,
    ),
    (
        "refused pod",
        |f| of_mesh(f).probe = Probe::Refused("no".to_owned()),
        Area::Webhook,
        Level::Fail,
    ),
    (
        "pod not tried",
        |f| of_mesh(f).probe = Probe::NotTried("quota".to_owned()),
        Area::Webhook,
        Level::Warn,
    ),
    (
        "a port that is shut",
        |f| f.api_ports.as_mut().unwrap().real = vec![8443],
        Area::Api,
        Level::Fail,
    ),
    (
        "a port that the defaults would shut",
        |f| {
            f.stage = Stage::Before;
            f.api_ports.as_mut().unwrap().real = vec![8443];
        },
        Area::Api,
        Level::Warn,
    ),
    (
        "a namespace that refuses proxies",
        |f| {
            let coverage = of_mesh(f).coverage.as_mut().unwrap();
            coverage.forbidden = vec![("shop".to_owned(), PodSecurity::Baseline)];
        },
        Area::Coverage,
        Level::Fail,
    ),
    ("no webhook", |f| of_mesh(f).webhook = Err("gone".to_owned()), Area::Webhook, Level::Fail),
    (
        "another's bundle",
        |f| of_mesh(f).webhook.as_mut().unwrap().bundles[0].1 = Vec::from("x"),
        Area::Webhook,
        Level::Fail,
    ),
];

#[test]
fn every_kind_of_trouble_has_its_level() {
    for (case, spoil, area, level) in TROUBLES {
        let mut facts = well();
        spoil(&mut facts);
        let findings = all(&facts, now());
        let levels =
            findings.iter().filter(|finding| finding.area == area).map(|finding| finding.level);
        assert_eq!(levels.max(), Some(level), "case: {case}: {findings:#?}");
    }
}

#[test]
fn a_certificate_is_judged_by_what_is_left_of_its_life() {
    let ends = |from: i64, until: i64| {
        let time = |days_off: i64| {
            let by = days(days_off.unsigned_abs());
            if days_off < 0 { now() - by } else { now() + by }
        };
        Certificate { subject: "CN=x".to_owned(), from: time(from), until: time(until) }
    };
    for (case, one, expected) in [
        ("young", ends(-1, 89), Level::Ok),
        ("nine tenths over", ends(-90, 9), Level::Warn),
        ("over", ends(-90, -1), Level::Fail),
        ("not begun", ends(1, 90), Level::Fail),
    ] {
        let mut facts = well();
        facts.mesh.as_mut().unwrap().certificates = vec![(mesh::SERVING.to_owned(), Ok(vec![one]))];
        let findings = all(&facts, now());
        let found = findings.iter().find(|finding| finding.area == Area::Certificates).unwrap();
        assert_eq!(found.level, expected, "case: {case}: {found:?}");
    }
}

/// Made for this test; nobody has its key.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n\
MIIBgzCCASmgAwIBAgIUMKhyPrLeYQL7JUOIpTrf/kqGOn0wCgYIKoZIzj0EAwIw\n\
FjEUMBIGA1UEAwwLaGVkZGxlLXRlc3QwIBcNMjYxMTI2MDQ1MjQzWhgPMjEyNjEx\n\
MDIwNDUyNDNaMBYxFDASBgNVBAMMC2hlZGRsZS10ZXN0MFkwEwYHKoZIzj0CAQYI\n\
KoZIzj0DAQcDQgAEUQoWnAclo2mA9udS9mNbiR8z0ZS/PxOaV6GeH73F3PbWk2AK\n\
yUP0Yb5j42IAfiRFa/y7CUJzf7jn3LHm6um3IqNTMFEwHQYDVR0OBBYEFEgg0xxX\n\
Qrcl3lkgLvIoOnxwNm5FMB8GA1UdIwQYMBaAFEgg0xxXQrcl3lkgLvIoOnxwNm5F\n\
MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAIC/0/Qq7K1TEg9L\n\
lEYFtW3xmrFhG5lYQJOQo09T2p87AiALJVlPS3Shq8OSkip+g/oaqdwpA9B5aiq3\n\
b5vM+4VC3g==\n\
-----END CERTIFICATE-----\n\
";
