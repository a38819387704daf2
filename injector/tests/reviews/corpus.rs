//! AdmissionReviews, most of them broken: pods of several shapes, and a table of what is done to each. Used
//! on the library here, and on a webhook in a cluster.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a table that cannot be read fails its test"
)]

use serde_json::{Value, json};

/// One body for the webhook.
pub(crate) struct Case {
    /// What it is, and what was done to it.
    pub(crate) name: String,
    /// What is sent.
    pub(crate) body: Vec<u8>,
    /// What the answer must be, where that is said.
    pub(crate) expected: Option<Expected>,
}

/// What an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Allowed, with a patch.
    Injected,
    /// Allowed, without one.
    Left,
    /// Not allowed, with a sentence.
    Refused,
    /// No review at all: an HTTP status of 400 and up.
    Unanswered,
}

/// All bodies.
pub(crate) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (shape, pod) in shapes() {
        let review = review(pod);
        all.push(Case {
            name: format!("{shape}, as it is"),
            body: text(&review),
            expected: Some(Expected::Injected),
        });
        for (name, changes, expected) in table() {
            let mut changed = review.clone();
            for change in changes {
                change.apply(&mut changed);
            }
            // What is expected is written down for the plain pod.
            let expected = Some(expected).filter(|_| shape == "plain");
            all.push(Case { name: format!("{shape}, {name}"), body: text(&changed), expected });
        }
        all.extend(broken_texts(shape, &text(&review)));
    }
    all.extend(strange_bodies());
    all
}

/// The pods of the table, and a name for each.
pub(crate) fn shapes() -> Vec<(&'static str, Value)> {
    let app = json!({"name": "app", "image": "app:1", "ports": [{"containerPort": 8080}]});
    let metadata = json!({"generateName": "app-", "labels": {"app": "a"}});
    let many: Vec<Value> = (0..20).map(|number| json!({"name": format!("app-{number}")})).collect();
    vec![
        ("plain", json!({"metadata": metadata, "spec": {"containers": [app]}})),
        (
            "full",
            json!({
                "metadata": {"name": "full", "annotations": {"a/b": "c~d/e", "heddle.dev/log": "debug"}},
                "spec": {
                    "containers": [app, {"name": "other"}],
                    "initContainers": [{"name": "first"}, {"name": "side", "restartPolicy": "Always"}],
                    "volumes": [{"name": "data", "emptyDir": {}}],
                    "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 2000},
                    "automountServiceAccountToken": false,
                    "shareProcessNamespace": true,
                    "terminationGracePeriodSeconds": 0,
                    "fieldOfTomorrow": {"deep": [1, 2, {"x": null}]},
                },
            }),
        ),
        (
            "empty lists",
            json!({"metadata": {"annotations": {}, "labels": {}}, "spec": {"containers": [app], "initContainers": [], "volumes": []}}),
        ),
        (
            "nulls",
            json!({"metadata": {"annotations": null, "labels": null}, "spec": {"containers": [app], "initContainers": null, "volumes": null, "securityContext": null}}),
        ),
        ("many", json!({"metadata": metadata, "spec": {"containers": many}})),
    ]
}

/// A review of a new pod, in a namespace that every cluster has, and that asks for no proxies.
pub(crate) fn review(mut pod: Value) -> Value {
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    // The pod says it itself, so that the namespace need not.
    let labels = &mut pod["metadata"]["labels"];
    if !labels.is_object() {
        *labels = json!({});
    }
    labels["heddle.dev/inject"] = json!("enabled");
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "default",
            "operation": "CREATE",
            "userInfo": {"username": "somebody", "groups": ["system:authenticated"]},
            "object": pod,
            "oldObject": null,
            "dryRun": false,
        },
    })
}

enum Change {
    /// Puts a value at a path, whose parents are made if they are missing.
    Set(&'static str, Value),
    /// Takes away what is at a path.
    Remove(&'static str),
}

impl Change {
    fn apply(self, review: &mut Value) {
        match self {
            Self::Set(path, value) => *place(review, path) = value,
            Self::Remove(path) => {
                let (parent, name) = path.rsplit_once('/').unwrap();
                if let Some(object) = place(review, parent).as_object_mut() {
                    object.remove(name);
                }
            }
        }
    }
}

fn place<'a>(mut value: &'a mut Value, path: &str) -> &'a mut Value {
    for name in path.split('/').filter(|name| !name.is_empty()) {
        value = match name.parse::<usize>() {
            Ok(index) if value.is_array() => &mut value[index],
            _ => {
                if !value.is_object() {
                    *value = json!({});
                }
                // A slash in a name is written ~1, as in JSON pointers.
                value.as_object_mut().unwrap().entry(name.replace("~1", "/")).or_insert(Value::Null)
            }
        };
    }
    value
}

fn table() -> Vec<(&'static str, Vec<Change>, Expected)> {
    let set = |path, value| vec![Change::Set(path, value)];
    let remove = |path| vec![Change::Remove(path)];
    let mut table = vec![
        (
            "of another version",
            set("apiVersion", json!("admission.k8s.io/v1beta1")),
            Expected::Unanswered,
        ),
        ("of no version", remove("/apiVersion"), Expected::Unanswered),
        ("of another kind", set("kind", json!("Pod")), Expected::Unanswered),
        ("of a numeric kind", set("kind", json!(7)), Expected::Unanswered),
        ("without a request", remove("/request"), Expected::Unanswered),
        ("with a request that is a list", set("request", json!([])), Expected::Unanswered),
        ("with a request that is null", set("request", json!(null)), Expected::Unanswered),
        ("without a uid", remove("/request/uid"), Expected::Unanswered),
        ("with an empty uid", set("request/uid", json!("")), Expected::Unanswered),
        ("with a numeric uid", set("request/uid", json!(1)), Expected::Unanswered),
        ("with a huge uid", set("request/uid", json!("u".repeat(100_000))), Expected::Unanswered),
        ("with a uid of unicode", set("request/uid", json!("ü\u{202e}\u{0}")), Expected::Injected),
        ("without a kind of object", remove("/request/kind"), Expected::Refused),
        ("with a kind that is text", set("request/kind", json!("Pod")), Expected::Refused),
        ("without a resource", remove("/request/resource"), Expected::Refused),
        ("without a namespace", remove("/request/namespace"), Expected::Refused),
        ("with an empty namespace", set("request/namespace", json!("")), Expected::Refused),
        ("with a numeric namespace", set("request/namespace", json!(3)), Expected::Refused),
        ("without an operation", remove("/request/operation"), Expected::Refused),
        ("with an unknown operation", set("request/operation", json!("INVENT")), Expected::Refused),
        (
            "with a lower-case operation",
            set("request/operation", json!("create")),
            Expected::Refused,
        ),
        ("without a user", remove("/request/userInfo"), Expected::Refused),
        ("with a user that is a list", set("request/userInfo", json!([1])), Expected::Refused),
        ("without an object", remove("/request/object"), Expected::Refused),
        ("with an object that is null", set("request/object", json!(null)), Expected::Refused),
        ("with an object that is text", set("request/object", json!("pod")), Expected::Refused),
        ("with an object that is a list", set("request/object", json!([])), Expected::Refused),
        (
            "with an object of another kind",
            set("request/object/kind", json!("Service")),
            Expected::Refused,
        ),
        (
            "with an object of another version",
            set("request/object/apiVersion", json!("v2")),
            Expected::Refused,
        ),
        ("with a dry run that is text", set("request/dryRun", json!("yes")), Expected::Refused),
        ("as a dry run", set("request/dryRun", json!(true)), Expected::Injected),
        (
            "with more fields than are known",
            set("request/tomorrow", json!({"a": [1]})),
            Expected::Injected,
        ),
        ("of an update", set("request/operation", json!("UPDATE")), Expected::Left),
        ("of a deletion", set("request/operation", json!("DELETE")), Expected::Left),
        ("of a connection", set("request/operation", json!("CONNECT")), Expected::Left),
        (
            "of ephemeral containers",
            set("request/subResource", json!("ephemeralcontainers")),
            Expected::Left,
        ),
        ("of a status", set("request/subResource", json!("status")), Expected::Left),
        (
            "of a Deployment",
            set("request/kind", json!({"group": "apps", "version": "v1", "kind": "Deployment"})),
            Expected::Left,
        ),
        (
            "of a Pod of another group",
            set("request/kind", json!({"group": "x", "version": "v1", "kind": "Pod"})),
            Expected::Left,
        ),
    ];
    table.extend(pods());
    table.extend(conflicts());
    table
}

/// What is done to the pod itself.
fn pods() -> Vec<(&'static str, Vec<Change>, Expected)> {
    let set = |path, value| vec![Change::Set(path, value)];
    let remove = |path| vec![Change::Remove(path)];
    let names = json!([{"name": "twin"}, {"name": "twin"}]);
    vec![
        ("without metadata", remove("/request/object/metadata"), Expected::Left),
        (
            "with metadata that are a list",
            set("request/object/metadata", json!([])),
            Expected::Refused,
        ),
        (
            "with labels that are a list",
            set("request/object/metadata/labels", json!(["a"])),
            Expected::Refused,
        ),
        (
            "with a numeric label",
            set("request/object/metadata/labels/n", json!(1)),
            Expected::Refused,
        ),
        (
            "with annotations that are text",
            set("request/object/metadata/annotations", json!("a")),
            Expected::Refused,
        ),
        (
            "with a boolean annotation",
            set("request/object/metadata/annotations/heddle.dev~1injected", json!(true)),
            Expected::Refused,
        ),
        (
            "with an annotation that is null",
            set("request/object/metadata/annotations/a", json!(null)),
            Expected::Refused,
        ),
        ("with a numeric name", set("request/object/metadata/name", json!(1)), Expected::Refused),
        (
            "with a name of unicode",
            set("request/object/metadata/name", json!("föö\u{feff}💥\u{0}\"\\")),
            Expected::Injected,
        ),
        (
            "with 10,000 annotations",
            set("request/object/metadata/annotations", many_annotations()),
            Expected::Injected,
        ),
        (
            "with a huge annotation",
            set("request/object/metadata/annotations/a", json!("x".repeat(300_000))),
            Expected::Injected,
        ),
        (
            "with a huge bad annotation",
            set(
                "request/object/metadata/annotations/heddle.dev~1log-level",
                json!("é".repeat(100_000)),
            ),
            Expected::Refused,
        ),
        (
            "with many bad annotations",
            set("request/object/metadata/annotations", many_bad()),
            Expected::Refused,
        ),
        ("without a spec", remove("/request/object/spec"), Expected::Refused),
        ("with a spec that is null", set("request/object/spec", json!(null)), Expected::Refused),
        ("with a spec that is a list", set("request/object/spec", json!([])), Expected::Refused),
        ("with an empty spec", set("request/object/spec", json!({})), Expected::Refused),
        ("without containers", set("request/object/spec/containers", json!([])), Expected::Refused),
        (
            "with containers that are null",
            set("request/object/spec/containers", json!(null)),
            Expected::Refused,
        ),
        (
            "with containers that are a map",
            set("request/object/spec/containers", json!({"app": {}})),
            Expected::Refused,
        ),
        (
            "with a container that is text",
            set("request/object/spec/containers", json!(["app"])),
            Expected::Refused,
        ),
        (
            "with a container without a name",
            set("request/object/spec/containers", json!([{"image": "a"}])),
            Expected::Injected,
        ),
        ("with twins", set("request/object/spec/containers", names.clone()), Expected::Injected),
        (
            "with twins that run first",
            set("request/object/spec/initContainers", names),
            Expected::Injected,
        ),
        (
            "with containers that run first in a map",
            set("request/object/spec/initContainers", json!({})),
            Expected::Refused,
        ),
        (
            "with a port that is text",
            set("request/object/spec/containers/0/ports", json!([{"containerPort": "http"}])),
            Expected::Refused,
        ),
        (
            "with a port beyond all",
            set(
                "request/object/spec/containers/0/ports",
                json!([{"containerPort": 4_000_000_000_i64}]),
            ),
            Expected::Refused,
        ),
        (
            "with a negative port",
            set("request/object/spec/containers/0/ports", json!([{"containerPort": -1}])),
            Expected::Injected,
        ),
        (
            "with a port of UDP",
            set(
                "request/object/spec/containers/0/ports",
                json!([{"containerPort": 53, "protocol": "UDP"}]),
            ),
            Expected::Injected,
        ),
        (
            "with a host port",
            set(
                "request/object/spec/containers/0/ports",
                json!([{"containerPort": 80, "hostPort": 80}]),
            ),
            Expected::Injected,
        ),
        (
            "with volumes that are text",
            set("request/object/spec/volumes", json!("all")),
            Expected::Refused,
        ),
        (
            "with a volume that is null",
            set("request/object/spec/volumes", json!([null])),
            Expected::Refused,
        ),
        (
            "with a grace period that is text",
            set("request/object/spec/terminationGracePeriodSeconds", json!("30")),
            Expected::Refused,
        ),
        (
            "with a negative grace period",
            set("request/object/spec/terminationGracePeriodSeconds", json!(-5)),
            Expected::Injected,
        ),
        (
            "with a grace period beyond all",
            set("request/object/spec/terminationGracePeriodSeconds", json!(i64::MAX)),
            Expected::Injected,
        ),
        (
            "on its node's network",
            set("request/object/spec/hostNetwork", json!(true)),
            Expected::Left,
        ),
        (
            "on a network that is text",
            set("request/object/spec/hostNetwork", json!("true")),
            Expected::Refused,
        ),
        ("on Windows", set("request/object/spec/os", json!({"name": "windows"})), Expected::Left),
        (
            "in a namespace of users",
            set("request/object/spec/hostUsers", json!(false)),
            Expected::Injected,
        ),
        (
            "static",
            set("request/object/metadata/annotations/kubernetes.io~1config.mirror", json!("x")),
            Expected::Left,
        ),
        (
            "with another mesh's proxy",
            set("request/object/spec/initContainers", json!([{"name": "linkerd-proxy"}])),
            Expected::Left,
        ),
        (
            "disabled by annotation",
            set("request/object/metadata/annotations/heddle.dev~1inject", json!("disabled")),
            Expected::Left,
        ),
        (
            "with an odd wish",
            set("request/object/metadata/labels/heddle.dev~1inject", json!("Enabled")),
            Expected::Refused,
        ),
        ("not asked for", remove("/request/object/metadata/labels"), Expected::Left),
        ("nested deeply", set("request/object/spec/x", nested(100)), Expected::Injected),
    ]
}

/// What cannot be beside our own names, ports and user.
fn conflicts() -> Vec<(&'static str, Vec<Change>, Expected)> {
    let set = |path, value| vec![Change::Set(path, value)];
    let first = "request/object/spec/initContainers";
    let redirect = json!({"name": "heddle-redirect"});
    let proxy = json!({"name": "heddle-proxy", "restartPolicy": "Always"});
    let annotations = "request/object/metadata/annotations";
    vec![
        ("with our redirect alone", set(first, json!([redirect])), Expected::Injected),
        ("with our proxy alone", set(first, json!([proxy])), Expected::Injected),
        (
            "with both, the other way round",
            set(first, json!([proxy, redirect])),
            Expected::Injected,
        ),
        ("with two of our proxies", set(first, json!([proxy, proxy])), Expected::Refused),
        (
            "with two of our redirects",
            set(first, json!([redirect, redirect, proxy])),
            Expected::Refused,
        ),
        (
            "with a proxy that ends",
            set(first, json!([{"name": "heddle-proxy"}])),
            Expected::Refused,
        ),
        (
            "with a redirect that stays",
            set(first, json!([{"name": "heddle-redirect", "restartPolicy": "Always"}])),
            Expected::Refused,
        ),
        (
            "with an app of our proxy's name",
            set("request/object/spec/containers/0/name", json!("heddle-proxy")),
            Expected::Refused,
        ),
        (
            "with an app of our redirect's name",
            set("request/object/spec/containers/0/name", json!("heddle-redirect")),
            Expected::Refused,
        ),
        (
            "with a volume of our token's name",
            set("request/object/spec/volumes", json!([{"name": "heddle-token", "emptyDir": {}}])),
            Expected::Refused,
        ),
        (
            "with our volumes",
            set(
                "request/object/spec/volumes",
                json!([{"name": "heddle-trust", "configMap": {"name": "a"}}, {"name": "heddle-token", "projected": {}}]),
            ),
            Expected::Injected,
        ),
        (
            "with our volume twice",
            set(
                "request/object/spec/volumes",
                json!([{"name": "heddle-trust", "configMap": {"name": "a"}}, {"name": "heddle-trust", "configMap": {"name": "a"}}]),
            ),
            Expected::Refused,
        ),
        (
            "as the proxy's user",
            set("request/object/spec/securityContext", json!({"runAsUser": 15100})),
            Expected::Refused,
        ),
        (
            "on the proxy's port",
            set("request/object/spec/containers/0/ports", json!([{"containerPort": 15190}])),
            Expected::Refused,
        ),
        (
            "with a claim",
            set(annotations, json!({"heddle.dev/injected": "true"})),
            Expected::Injected,
        ),
        (
            "with a claim, disabled",
            set(
                annotations,
                json!({"heddle.dev/injected": "true", "heddle.dev/inject": "disabled"}),
            ),
            Expected::Refused,
        ),
        (
            "with a bad claim",
            set(annotations, json!({"heddle.dev/injected": "maybe"})),
            Expected::Refused,
        ),
        (
            "with a slip of the pen",
            set(annotations, json!({"heddle.dev/skip-port": "80"})),
            Expected::Refused,
        ),
        (
            "with a bad port",
            set(annotations, json!({"heddle.dev/skip-inbound-ports": "80,,81"})),
            Expected::Refused,
        ),
        (
            "with a drain that is too long",
            set(annotations, json!({"heddle.dev/drain-grace": "1h"})),
            Expected::Refused,
        ),
        (
            "with more than its limit",
            set(annotations, json!({"heddle.dev/proxy-memory-request": "1Ti"})),
            Expected::Refused,
        ),
    ]
}

/// A text that ends early, or has a byte that is another one.
fn broken_texts(shape: &str, whole: &[u8]) -> Vec<Case> {
    const PARTS: usize = 12;
    let mut cases = Vec::new();
    for part in 0..PARTS {
        let length = whole.len() * part / PARTS;
        cases.push(Case {
            name: format!("{shape}, only {length} bytes of it"),
            body: whole[..length].to_vec(),
            expected: Some(Expected::Unanswered),
        });
        let mut changed = whole.to_vec();
        changed[length] ^= 0x81;
        cases.push(Case {
            name: format!("{shape}, byte {length} changed"),
            body: changed,
            expected: None,
        });
    }
    cases
}

fn strange_bodies() -> Vec<Case> {
    let repeated = |open: &str, count: usize| open.repeat(count).into_bytes();
    [
        ("nothing", Vec::new()),
        ("a space", b" ".to_vec()),
        ("null", b"null".to_vec()),
        ("a number", b"1e999".to_vec()),
        ("a list", b"[]".to_vec()),
        ("an empty object", b"{}".to_vec()),
        ("no UTF-8", vec![0xff, 0xfe, 0x00, 0x80]),
        ("UTF-16", "{}".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("a byte order mark", [b"\xef\xbb\xbf".as_slice(), b"{}"].concat()),
        ("100,000 lists in one another", repeated("[", 100_000)),
        ("100,000 objects in one another", repeated("{\"a\":", 100_000)),
        ("a long text", repeated("a", 1_000_000)),
        ("two reviews", [text(&review(json!({}))), text(&review(json!({})))].concat()),
        ("a form", b"a=b&c=d".to_vec()),
        ("YAML", b"kind: AdmissionReview\n".to_vec()),
        ("half a surrogate", br#"{"kind":"\ud800"}"#.to_vec()),
    ]
    .map(|(name, body)| Case { name: name.to_owned(), body, expected: Some(Expected::Unanswered) })
    .into()
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

fn many_annotations() -> Value {
    let pairs = (0..10_000).map(|number| (format!("example.com/{number}"), json!("value")));
    Value::Object(pairs.collect())
}

fn many_bad() -> Value {
    let pairs = (0..10_000).map(|number| (format!("heddle.dev/{number}"), json!("value")));
    Value::Object(pairs.collect())
}

fn text(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}
