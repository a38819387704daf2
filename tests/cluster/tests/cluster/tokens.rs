//! Who gets a certificate from a control plane on a real API server: the live pod that a token was made for, and nobody
//! else. Every token is shown by a real proxy.

use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use heddle_cluster::cluster::Cluster;
use heddle_cluster::wait;
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};

use super::control_plane::{apply, end, meshed_api, pods};
use super::mesh::{self, NAMESPACE};

/// A proxy beside nothing, which shows the control plane a token from a Secret of its own name. It waits for that.
fn shower(name: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{heddle.dev/inject: disabled}}}}
spec:
  terminationGracePeriodSeconds: 0
  serviceAccountName: api
  containers:
  - name: proxy
    image: heddle/proxy:0.1.0
    imagePullPolicy: IfNotPresent
    args: [run]
    securityContext: {{runAsUser: 15100}}
    env:
    - {{name: HEDDLE_CONTROL_PLANE, value: "heddle-control-plane.{NAMESPACE}.svc.cluster.local:15210"}}
    - {{name: HEDDLE_TRUST_ANCHORS, value: /anchors/trust-anchors.pem}}
    - {{name: HEDDLE_TOKEN_FILE, value: /shown/token}}
    - {{name: HEDDLE_POD_UID, valueFrom: {{fieldRef: {{fieldPath: metadata.uid}}}}}}
    volumeMounts: [{{name: anchors, mountPath: /anchors}}, {{name: shown, mountPath: /shown}}]
  volumes:
  - {{name: anchors, configMap: {{name: heddle-trust-anchors}}}}
  - {{name: shown, secret: {{secretName: {name}}}}}
"#
    )
}

/// A namespace with the service account `api`, tokens and pods that show them.
struct Place<'a> {
    cluster: &'a Cluster,
    namespace: String,
}

impl Place<'_> {
    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl(&[&["-n", &self.namespace], arguments].concat(), "").await
    }

    /// A token of the service account, made by the API server.
    async fn token(&self, more: &[&str]) -> Result<String> {
        let token = self.kubectl(&[&["create", "token", "api"], more].concat()).await?;
        Ok(token.trim().to_owned())
    }

    /// As a kubelet asks for one.
    async fn token_of(&self, pod: &str) -> Result<String> {
        self.token(&["--audience=heddle", "--bound-object-kind=Pod", "--bound-object-name", pod])
            .await
    }

    async fn start(&self, name: &str) -> Result<()> {
        apply(self.cluster, &self.namespace, &shower(name)).await
    }

    /// Gives a pod that was started the token that it shows, and returns what comes of it.
    async fn show(&self, name: &str, token: &str) -> Result<String> {
        let token = format!("--from-literal=token={token}");
        self.kubectl(&["create", "secret", "generic", name, &token]).await?;
        self.answer(name).await
    }

    /// What the control plane has answered to a pod's proxy, once it has made up its mind.
    async fn answer(&self, name: &str) -> Result<String> {
        wait::until("the proxy is answered", Duration::from_secs(90), async || {
            let logs = self.kubectl(&["logs", name]).await?;
            let answer = logs.lines().find(|line| {
                let refused = line.contains("no new certificate") && !line.contains("at present");
                refused || line.contains("certificate received")
            });
            answer.map(str::to_owned).with_context(|| format!("there is no answer in {logs}"))
        })
        .await
    }

    /// What the API server says of a token.
    async fn review(&self, token: &str) -> Result<Value> {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": ["heddle"]}});
        let create = ["create", "-f", "-", "-o", "json"];
        let said = self.cluster.kubectl(&create, &review.to_string()).await?;
        let mut said: Value = serde_json::from_str(&said)?;
        Ok(said["status"].take())
    }

    /// The same token with other times in it, signed with the key that the API server signs with.
    fn signed_again(&self, token: &str, issued: SystemTime, expires: SystemTime) -> Result<String> {
        let payload = token.split('.').nth(1).context("a token has three parts")?;
        let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
        let seconds =
            |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map(|it| it.as_secs());
        claims["exp"] = seconds(expires)?.into();
        claims["iat"] = seconds(issued)?.into();
        claims["nbf"] = seconds(issued)?.into();
        if let Some(kubernetes) = claims["kubernetes.io"].as_object_mut() {
            kubernetes.remove("warnafter");
        }
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "ES256"}).to_string());
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let folder = self.cluster.kubeconfig();
        let folder = folder.parent().context("a kubeconfig is in a folder")?.join("pki");
        let key = KeyPair::from_pem(&fs::read_to_string(folder.join("service-account.key"))?)?;
        let signature = joined(&key.sign(signed.as_bytes())?).context("an ECDSA signature")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// An ECDSA P-256 signature as RFC 7518, section 3.4, has it: both numbers of 32 bytes, one after the other. It comes as
/// a sequence of two integers in DER, each shorter than 128 bytes.
fn joined(der: &[u8]) -> Option<[u8; 64]> {
    let mut joined = [0; 64];
    let mut rest = der.get(2..)?;
    for half in joined.chunks_exact_mut(32) {
        let (&[0x02, length], after) = rest.split_first_chunk()? else { return None };
        let (number, after) = after.split_at_checked(length.into())?;
        let significant = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
        let number = number.get(significant..)?;
        half.get_mut(32usize.checked_sub(number.len())?..)?.copy_from_slice(number);
        rest = after;
    }
    Some(joined)
}

#[tokio::test]
async fn a_token_is_honoured_for_its_live_pod_alone() -> Result<()> {
    let mesh = mesh::installed().await?;
    let namespace = meshed_api(mesh, "tokens").await?;
    let place = Place { cluster: mesh.cluster, namespace };
    let victim = pods(place.cluster, &place.namespace).await?;
    let victim = victim.first().context("there is a pod")?;
    let bound = ["--bound-object-kind=Pod", "--bound-object-name", victim];

    let own = place.token_of(victim).await?;
    let other_audience = place.token(&[&["--audience=other"], &bound[..]].concat()).await?;
    let two = ["--audience=heddle", "--audience=other"];
    let two_audiences = place.token(&[&two[..], &bound[..]].concat()).await?;
    let unbound = place.token(&["--audience=heddle"]).await?;
    for (case, token, expected) in [
        ("another-pods", &own, "does not have the address"),
        ("another-audience", &other_audience, "not for heddle alone"),
        ("two-audiences", &two_audiences, "not for heddle alone"),
        ("unbound", &unbound, "it is bound to no pod"),
    ] {
        place.start(case).await?;
        let answer = place.show(case, token).await?;
        ensure!(answer.contains(expected), "case: {case}: {answer}");
    }
    place.kubectl(&["delete", "pod", victim]).await?;
    place.start("deleted-pods").await?;
    let answer = place.show("deleted-pods", &own).await?;
    ensure!(is_refused_as_dead(&answer), "deleted: {answer}");
    end(place.cluster, &place.namespace).await
}

#[tokio::test]
async fn a_token_of_ones_own_is_refused_when_it_is_forged_or_has_expired() -> Result<()> {
    let mesh = mesh::installed().await?;
    let place = Place { cluster: mesh.cluster, namespace: meshed_api(mesh, "forged").await? };
    let now = heddle_runtime::clock::now();
    let ago = |seconds| now - Duration::from_secs(seconds);

    place.start("own").await?;
    let own = place.token_of("own").await?;
    let answer = place.show("own", &own).await?;
    ensure!(answer.contains("certificate received"), "own: {answer}");

    place.start("forged").await?;
    let token = place.token_of("forged").await?;
    let (signed, _) = token.rsplit_once('.').context("a token has three parts")?;
    let answer = place.show("forged", &format!("{signed}.AAAA")).await?;
    ensure!(answer.contains("the API server does not know it"), "forged: {answer}");

    // What the test signs is as good as what the API server signs, but for its time.
    place.start("expired").await?;
    let token = place.token_of("expired").await?;
    let good = place.signed_again(&token, ago(60), now + Duration::from_secs(600))?;
    let said = place.review(&good).await?;
    ensure!(said["authenticated"] == true, "as good as one of the API server's: {said}");
    let expired = place.signed_again(&token, ago(1_200), ago(600))?;
    let said = place.review(&expired).await?;
    ensure!(
        said["authenticated"] != true && said["error"].to_string().contains("expired"),
        "{said}"
    );
    let answer = place.show("expired", &expired).await?;
    ensure!(answer.contains("it has expired"), "expired: {answer}");

    // The API server itself takes one for a minute after its end; the control plane does not.
    place.start("just-expired").await?;
    let token = place.token_of("just-expired").await?;
    let expired = place.signed_again(
        &token,
        ago(1_200),
        heddle_runtime::clock::now() - Duration::from_secs(1),
    )?;
    let answer = place.show("just-expired", &expired).await?;
    ensure!(answer.contains("it has expired"), "just expired: {answer}");
    end(place.cluster, &place.namespace).await
}

#[tokio::test]
async fn a_token_of_a_deleted_pod_is_refused_from_another_one_of_its_name() -> Result<()> {
    let mesh = mesh::installed().await?;
    let place = Place { cluster: mesh.cluster, namespace: meshed_api(mesh, "reborn").await? };
    place.start("reborn").await?;
    let first = place.token_of("reborn").await?;
    let answer = place.show("reborn", &first).await?;
    ensure!(answer.contains("certificate received"), "in its first life: {answer}");
    let uid = ["get", "pod", "reborn", "-o", "jsonpath={.metadata.uid}"];
    let before = place.kubectl(&uid).await?;

    // The Secret stays, and with it the token of the first one.
    place.kubectl(&["delete", "pod", "reborn"]).await?;
    place.start("reborn").await?;
    ensure!(place.kubectl(&uid).await? != before, "it is the same pod");
    let answer = place.answer("reborn").await?;
    ensure!(is_refused_as_dead(&answer), "in its second life: {answer}");
    end(place.cluster, &place.namespace).await
}

/// Whichever of the two hears of it first.
fn is_refused_as_dead(answer: &str) -> bool {
    ["the API server does not know it", "there is no live pod"]
        .iter()
        .any(|refused| answer.contains(refused))
}
