//! What users are told when a pod gets no proxy, or not all that they may think: by kubectl at once, by an Event on the
//! pod, and by `meshctl check`.

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::cluster::Cluster;
use heddle_cluster::wait;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::mesh::{self, NAMESPACE};

/// A pod that is not as others are, and what is said of it.
struct Case {
    name: &'static str,
    /// Of its spec, beside its container.
    spec: &'static str,
    /// Of its container.
    container: &'static str,
    /// By kubectl, by its Event and by `meshctl check`.
    sentence: &'static str,
    /// Of its Event.
    reason: &'static str,
    /// Of the line of `meshctl check`.
    level: &'static str,
}

const CASES: [Case; 3] = [
    Case {
        name: "host",
        spec: "hostNetwork: true",
        container: "",
        sentence: "the pod uses its node's network (hostNetwork), whose traffic is not its own alone",
        reason: "ProxyNotPossible",
        level: "warn",
    },
    Case {
        name: "other",
        spec: r#"initContainers: [{name: linkerd-proxy, image: "busybox:1", command: ["true"]}]"#,
        container: "",
        sentence: "the pod has the proxy of another mesh, which takes the same traffic",
        reason: "ProxyNotPossible",
        level: "warn",
    },
    Case {
        name: "udp",
        spec: "",
        container: "ports: [{containerPort: 53, protocol: UDP}]",
        sentence: "its UDP ports (53) are not in the mesh",
        reason: "UdpNotMeshed",
        level: "ok",
    },
];

fn pod(case: &Case) -> String {
    let Case { name, spec, container, .. } = case;
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  {spec}
  containers:
  - name: app
    image: busybox:1
    command: [sleep, '1000']
    {container}
"
    )
}

#[tokio::test]
async fn a_pod_that_is_skipped_in_part_or_as_a_whole_is_told_of_in_three_places() -> Result<()> {
    let mesh = mesh::installed().await?;
    let namespace = mesh.namespace("told").await?;
    for case in &CASES {
        let applied =
            kubectl(mesh.cluster, &["-n", &namespace, "apply", "-f", "-"], &pod(case)).await?;
        let said = words(&applied);
        ensure!(applied.status.success(), "{} is refused: {said}", case.name);
        ensure!(
            said.contains("Warning: ") && said.contains(case.sentence),
            "{}: {said}",
            case.name
        );
    }
    for case in &CASES {
        wait::until("the pod has its event", LIMIT, async || {
            let about = format!("involvedObject.name={},reason={}", case.name, case.reason);
            let get = ["-n", &namespace, "get", "events", "--field-selector", &about];
            let messages = "jsonpath={.items[*].message}";
            let said = mesh.cluster.kubectl(&[&get[..], &["-o", messages]].concat(), "").await?;
            ensure!(said.contains(case.sentence), "{}: {said:?}", case.name);
            Ok(())
        })
        .await?;
    }
    let findings = mesh.findings().await?;
    for case in &CASES {
        let place = format!("{namespace}/{}: ", case.name);
        let told = findings.iter().find(|finding| {
            finding["message"].as_str().is_some_and(|text| text.starts_with(&place))
        });
        let told = told.with_context(|| format!("nothing is said of {place}: {findings:#?}"))?;
        let message = told["message"].as_str().unwrap_or_default();
        ensure!(message.contains(case.sentence) && told["level"] == case.level, "{told}");
    }
    mesh.cluster.kubectl(&["delete", "namespace", &namespace, "--wait=false"], "").await?;
    Ok(())
}

#[tokio::test]
async fn a_bad_annotation_refuses_the_pod_with_a_sentence_that_kubectl_prints() -> Result<()> {
    let mesh = mesh::installed().await?;
    let namespace = mesh.namespace("refused").await?;
    for (case, annotation, sentence) in [
        (
            "a bad value",
            "heddle.dev/skip-inbound-ports: '80,x'",
            "heddle.dev/skip-inbound-ports: \"80,x\" will not do (want at most 128 ports or ranges between commas, such \
             as \"8086,9000-9010\")",
        ),
        (
            "a slip of the pen",
            "heddle.dev/skip-inbound-port: '80'",
            "heddle.dev/skip-inbound-port: there is no such annotation (did you mean heddle.dev/skip-inbound-ports?)",
        ),
    ] {
        let bad = Case { name: "bad", spec: "", container: "", sentence, reason: "", level: "" };
        let text = pod(&bad);
        let text =
            text.replace("{name: bad}", &format!("{{name: bad, annotations: {{{annotation}}}}}"));
        let applied = kubectl(mesh.cluster, &["-n", &namespace, "apply", "-f", "-"], &text).await?;
        let said = words(&applied);
        ensure!(!applied.status.success(), "case: {case}: it is admitted: {said}");
        let who = "admission webhook \"inject.heddle.dev\" denied the request: ";
        ensure!(said.contains(who) && said.contains(sentence), "case: {case}: {said}");
    }
    let pods = mesh.cluster.kubectl(&["-n", &namespace, "get", "pods", "-o", "name"], "").await?;
    ensure!(pods.trim().is_empty(), "there is {pods}");
    Ok(())
}

#[tokio::test]
async fn the_injector_may_make_and_read_its_own_secret_and_no_other() -> Result<()> {
    let mesh = mesh::installed().await?;
    let injector = format!("--as=system:serviceaccount:{NAMESPACE}:heddle-injector");
    let secret =
        |name: &str| format!("{{apiVersion: v1, kind: Secret, metadata: {{name: {name}}}}}");
    let apply = ["apply", "--server-side", "--field-manager=a-test", "--dry-run=server", "-f", "-"];
    for (case, arguments, input, allowed) in [
        ("applies its own", &apply[..], secret("heddle-injector-tls"), true),
        ("applies another", &apply[..], secret("another"), false),
        (
            "creates its own",
            &["create", "--dry-run=server", "-f", "-"][..],
            secret("heddle-injector-tls"),
            false,
        ),
        (
            "creates another",
            &["create", "--dry-run=server", "-f", "-"][..],
            secret("another"),
            false,
        ),
        ("reads its own", &["get", "secret", "heddle-injector-tls"][..], String::new(), true),
        ("reads the authority", &["get", "secret", "heddle-authority"][..], String::new(), false),
        ("lists all", &["get", "secrets"][..], String::new(), false),
    ] {
        let whole = [&["-n", NAMESPACE, &injector], arguments].concat();
        let said = kubectl(mesh.cluster, &whole, &input).await?;
        ensure!(said.status.success() == allowed, "case: it {case}: {}", words(&said));
        ensure!(allowed || words(&said).contains("orbidden"), "case: it {case}: {}", words(&said));
    }
    Ok(())
}

/// What kubectl says, however it ends.
async fn kubectl(cluster: &Cluster, arguments: &[&str], input: &str) -> Result<Output> {
    let mut child = Command::new(cluster.programs().join("kubectl"))
        .args(arguments)
        .env("KUBECONFIG", cluster.kubeconfig())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start kubectl")?;
    let mut writer = child.stdin.take().context("kubectl has no input")?;
    let exchange = async {
        // It may not read what it has no use for.
        let _ = writer.write_all(input.as_bytes()).await;
        drop(writer);
        child.wait_with_output().await
    };
    Ok(tokio::time::timeout(LIMIT, exchange).await.context("kubectl does not end")??)
}

fn words(output: &Output) -> String {
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    said.concat()
}

/// The injector looks every 15 seconds.
const LIMIT: Duration = Duration::from_secs(90);
