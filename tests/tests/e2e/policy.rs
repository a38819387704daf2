//! A TrafficPolicy decides which endpoint gets a request, and how many requests a workload takes.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use heddle_tests::applications::echo_http;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::Plan;

#[tokio::test]
async fn a_policy_keeps_users_and_sessions_with_their_pods_and_limits_callers() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let pod = |name: &str| {
        let pod = Pod::new(name).label("app", "echo").command(&echo_http(8080, name));
        pod.port(8080)
    };
    let world = Plan::new("policy")
        .file(
            "pods.yaml",
            documents(&[pod("echo-1"), pod("echo-2"), pod("echo-3"), Pod::new("client")]),
        )
        .file("services.yaml", documents(&[Service::new("echo").port_speaking(8080, 8080, "http")]))
        .start()
        .await?;

    world.write(
        "policy.yaml",
        &policy("loadBalancing: {type: ConsistentHash, consistentHash: {header: x-user}}"),
    )?;
    wait::until("users stay with their pods", Duration::from_secs(20), async || {
        let mut all = BTreeSet::new();
        for user in 0..8 {
            let header = format!("x-user: user-{user}");
            let mut pods = BTreeSet::new();
            for _again in 0..4 {
                pods.insert(world.curl("client", &[&["-H", &header][..], &NAME].concat()).await?);
            }
            ensure!(pods.len() == 1, "{header} came to {pods:?}");
            all.extend(pods);
        }
        ensure!(all.len() > 1, "all users came to {all:?}");
        Ok(())
    })
    .await?;

    world
        .write("policy.yaml", &policy("sessionPersistence: {type: Cookie, sessionName: sticky}"))?;
    let cookie = wait::until("a session begins", Duration::from_secs(20), async || {
        let said = world.curl("client", &["--include", URL]).await?;
        let told = said.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        let cookie = told.and_then(|told| told.split(';').next());
        cookie.map(ToOwned::to_owned).ok_or_else(|| anyhow::anyhow!("no cookie in {said}"))
    })
    .await?;
    let header = format!("cookie: {cookie}");
    let mut pods = BTreeSet::new();
    for _again in 0..12 {
        pods.insert(world.curl("client", &[&["-H", &header][..], &NAME].concat()).await?);
    }
    ensure!(pods.len() == 1, "the session {cookie} came to {pods:?}");

    world.write(
        "policy.yaml",
        &policy("rateLimit: [{requests: 1, interval: 10m, burst: 2, scope: Caller}]"),
    )?;
    wait::until("the caller has asked enough", Duration::from_secs(20), async || {
        let said = world.curl("client", &["--include", URL]).await?;
        let is_limited = said.contains(" 429 ") && said.contains("x-heddle-error: rate_limited");
        ensure!(is_limited && said.contains("x-heddle-error-source: inbound"), "{said}");
        ensure!(said.contains("retry-after: "), "{said}");
        Ok(())
    })
    .await?;
    world.finish().await
}

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: heddle.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: echo}}\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Service, name: echo}}]\n  {spec}\n"
    )
}

/// Who answers.
const NAME: [&str; 5] = ["--output", "/dev/null", "--write-out", "%header{x-shop-version}", URL];
const URL: &str = "http://echo:8080/";
