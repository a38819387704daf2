//! The demo as anybody runs it, as root and as nobody in particular.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_tests::program::{self, Said};
use heddle_tests::requirements::{self, Tool};
use heddle_tests::schema;
use serde_json::Value;
use tokio::process::Command;

#[tokio::test]
async fn the_demo_sums_up_a_canary_without_losing_anything() -> Result<()> {
    if requirements::skip(&[])? {
        return Ok(());
    }
    let directory = tempfile::Builder::new().prefix("hd-").tempdir()?;
    let mut command = Command::new(program::binaries()?.path("meshctl"));
    command.args(DEMO).env("XDG_RUNTIME_DIR", directory.path());
    judge(&program::finish(command, LIMIT).await?)?;
    nothing_is_left_in(directory.path())
}

#[tokio::test]
async fn the_demo_runs_for_a_user_without_any_rights() -> Result<()> {
    if requirements::skip(&[Tool::Setpriv])? {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        // Then the other test has shown it.
        return Ok(());
    }
    let directory = tempfile::Builder::new().prefix("hd-").tempdir()?;
    let programs = program::copies(directory.path())?;
    let runtime = directory.path().join("run");
    std::fs::create_dir(&runtime)?;
    std::os::unix::fs::chown(&runtime, Some(NOBODY), Some(NOBODY))?;
    for open in [directory.path(), &programs] {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o755))?;
    }
    let user = NOBODY.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs", "--"]);
    command.arg(programs.join("meshctl")).args(DEMO);
    command.env("XDG_RUNTIME_DIR", &runtime).env("HOME", &runtime).current_dir("/");
    judge(&program::finish(command, LIMIT).await?)?;
    nothing_is_left_in(&runtime)
}

fn judge(said: &Said) -> Result<()> {
    ensure!(
        said.code == Some(0),
        "the demo ended with {:?}: {}{}",
        said.code,
        said.stdout,
        said.stderr
    );
    let summary: Value =
        serde_json::from_str(&said.stdout).with_context(|| format!("no JSON: {}", said.stdout))?;
    schema::hold("demo", &summary)?;
    let number =
        |value: &Value| value.as_u64().with_context(|| format!("no number {value} in {summary}"));
    let requests = &summary["requests"];
    let sent = number(&requests["sent"])?;
    ensure!(sent >= 500, "{summary}");
    ensure!(
        number(&requests["succeeded"])? == sent && number(&requests["failed"])? == 0,
        "{summary}"
    );
    ensure!(
        number(&summary["over_mtls"])? >= sent && number(&summary["plaintext"])? == 0,
        "{summary}"
    );
    let steps = summary["steps"].as_array().with_context(|| format!("no steps in {summary}"))?;
    ensure!(steps.len() == 4, "{summary}");
    for (step, percent) in steps.iter().zip([0, 10, 50, 100]) {
        ensure!(number(&step["canary_percent"])? == percent, "{summary}");
        let (v1, v2) = (number(&step["backends"]["v1"])?, number(&step["backends"]["v2"])?);
        ensure!(v1 + v2 > 50, "{summary}");
        // A few hundred requests are too few for two points; no weight is nothing, however few.
        let wanted = (v1 + v2) * percent / 100;
        ensure!(v2.abs_diff(wanted) <= (v1 + v2) / 8, "{percent} %: {summary}");
        ensure!(percent != 0 || v2 == 0, "{summary}");
        ensure!(percent != 100 || v1 == 0, "{summary}");
    }
    ensure!(number(&summary["certificate_renewals"])? > 0, "{summary}");
    ensure!(number(&summary["config"]["versions_acknowledged"])? > 0, "{summary}");
    ensure!(number(&summary["config"]["refused"])? == 0, "{summary}");
    Ok(())
}

fn nothing_is_left_in(directory: &Path) -> Result<()> {
    let worlds = std::fs::read_dir(directory.join("heddle"));
    let left: Vec<_> = worlds.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

const DEMO: [&str; 5] = ["demo", "--output", "json", "--duration", "20s"];
const LIMIT: Duration = Duration::from_secs(120);
const NOBODY: u32 = 65_534;
