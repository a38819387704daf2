//! What an application may not do to the mesh that it runs in.

use anyhow::{Result, ensure};
use heddle_tests::manifest::{Pod, documents};
use heddle_tests::requirements;
use heddle_tests::world::Plan;

#[tokio::test]
async fn an_application_reads_no_key_and_no_token_through_the_processes_that_have_them()
-> Result<()> {
    if requirements::skip(&[])? {
        return Ok(());
    }
    let world =
        Plan::new("isolation").file("pods.yaml", documents(&[Pod::new("curious")])).start().await?;
    let state = world.state_directory();
    let state = state.display();
    // The control experiment: the processes themselves are seen.
    let seen = world.ask("curious", &["sh", "-c", "cat /proc/[0-9]*/comm"]).await?;
    for process in ["heddle-control", "heddle-proxy", "heddle-local"] {
        ensure!(seen.contains(process), "{seen}");
    }
    let peek = format!(
        "ls -d /proc/[0-9]*/root{state}/* /proc/[0-9]*/cwd{state}/* /proc/[0-9]*/fd/*; cat /proc/[0-9]*/environ"
    );
    let found = world.run("curious", &["sh", "-c", &peek]).await?.stdout_text();
    let of_the_mesh = ["control-plane", "join-tokens", "heddle-local"];
    for name in of_the_mesh {
        ensure!(!found.contains(&format!("{state}/{name}")), "{found}");
    }
    ensure!(!found.contains("root.pem") && !found.contains("control.sock"), "{found}");
    world.finish().await
}
