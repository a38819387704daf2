//! The dashboard in a real browser: the canary moves in it, it asks nobody else, it can be used without a mouse, and nobody
//! else can read the mesh through it.

mod motion;
mod tap;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_local::protocol::{Signal, Target};
use heddle_tests::browser::{Browser, keys};
use heddle_tests::manifest::traffic_split;
use heddle_tests::program;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

#[tokio::test]
async fn the_canary_moves_in_the_dashboard_which_asks_nobody_else() -> Result<()> {
    if requirements::skip(&[Tool::Chromium])? {
        return Ok(());
    }
    let world = shop("dashboard").await?;
    let (relay, address) = dashboard(&world).await?;
    let browser = Browser::start(1280, 800).await?;
    browser.open(&address).await?;
    for place in ["load", "frontend", "api:8080", "api-v1", "api-v2", "store"] {
        within(
            &browser,
            &format!("{place} is on the map"),
            "return !!document.querySelector(`.node[data-node='${arguments[0]}']`)",
            json!([place]),
        )
        .await?;
    }
    within(&browser, "every line with traffic has its lock", LOCKED, json!([])).await?;
    share_of_v2(&browser, 0, 0).await?;
    browser.picture("map-0").await?;
    for (percent, low, high) in [(50, 35, 65), (100, 95, 100)] {
        world.write(
            "canary.yaml",
            &traffic_split("api", &[("api-v1", 100 - percent), ("api-v2", percent)]),
        )?;
        share_of_v2(&browser, low, high).await?;
        browser.picture(&format!("map-{percent}")).await?;
    }
    both_colours(&browser).await?;
    every_page(&browser, &address).await?;
    said_and_asked(&browser, &address).await?;
    control_plane_comes_and_goes(&world, &browser).await?;
    browser.end().await?;
    drop(relay);
    world.finish().await
}

#[tokio::test]
async fn names_are_text_in_the_dashboard_and_it_is_used_without_a_mouse() -> Result<()> {
    if requirements::skip(&[Tool::Chromium])? {
        return Ok(());
    }
    let world = shop("keyboard").await?;
    // Nobody has to name a file well; what is wrong in it is shown.
    world.write(HOSTILE, "kind: [")?;
    let (relay, address) = dashboard(&world).await?;
    let browser = Browser::start(1280, 800).await?;
    browser.open(&address).await?;
    within(
        &browser,
        "the map is there",
        "return document.querySelectorAll('a.node').length > 3",
        json!([]),
    )
    .await?;
    every_page_is_reached(&browser).await?;
    tab_to(&browser, "document.activeElement.matches('a.node') && document.activeElement.dataset.node === 'api:8080'").await?;
    browser.press(&[keys::ENTER]).await?;
    within(
        &browser,
        "the service's page",
        "return document.querySelector('h1').textContent === 'default/api:8080'",
        json!([]),
    )
    .await?;
    within(&browser, "its charts have lines", "return [...document.querySelectorAll('figure path.line')].filter((path) => path.getAttribute('d').includes('L')).length >= 5", json!([])).await?;
    tab_to(&browser, "document.activeElement.matches('svg.chart')").await?;
    browser.press(&[keys::LEFT]).await?;
    within(
        &browser,
        "a moment is looked at",
        "return !!document.querySelector('.moment')",
        json!([]),
    )
    .await?;

    let base = address.split("/?").next().context("no address")?;
    browser.open(&format!("{base}/#/config")).await?;
    within(
        &browser,
        "the name is shown as it is",
        "return document.querySelector('main').textContent.includes(arguments[0])",
        json!([HOSTILE]),
    )
    .await?;
    let harm = browser.run("return [document.images.length, document.title, document.querySelectorAll('script').length]", json!([])).await?;
    ensure!(harm == json!([0, "Configuration · Heddle", 1]), "{harm}");
    browser.picture("config-refused").await?;
    ensure!(complaints(&browser).await?.is_empty(), "{:?}", complaints(&browser).await?);
    browser.end().await?;
    drop(relay);
    world.finish().await
}

/// With the keyboard alone, by the links at the top.
async fn every_page_is_reached(browser: &Browser) -> Result<()> {
    for (name, title) in [
        ("Services", "Services"),
        ("Workloads", "Workloads"),
        ("Routes", "Routes"),
        ("Tap", "Tap"),
        ("Configuration", "Configuration"),
        ("Certificates", "Certificates"),
        ("Map", "Map"),
    ] {
        tab_to(browser, &format!("document.activeElement.textContent === '{name}' && !!document.activeElement.closest('nav')")).await?;
        browser.press(&[keys::ENTER]).await?;
        let there = "return document.querySelector('h1').textContent === arguments[0] && document.activeElement.id === 'title' && document.title.startsWith(arguments[0])";
        within(
            browser,
            &format!("{title} is shown, and the focus is at its title"),
            there,
            json!([title]),
        )
        .await?;
        within(browser, &format!("{title} has its content"), "return !document.querySelector('main').textContent.includes('Asking the control plane')", json!([])).await?;
        // A reader of the screen would begin anew: drawing again must not move the focus.
        let seen =
            browser.run("return document.querySelector('#foot').textContent", json!([])).await?;
        within(
            browser,
            "it was drawn again",
            "return document.querySelector('#foot').textContent !== arguments[0]",
            json!([seen]),
        )
        .await?;
        let focus = browser.run("return document.activeElement.id", json!([])).await?;
        ensure!(focus == "title", "the focus moved to {focus}");
    }
    Ok(())
}

#[tokio::test]
async fn the_mesh_is_told_to_its_user_alone_and_as_meshctl_tells_it() -> Result<()> {
    if requirements::skip(&[Tool::Curl])? {
        return Ok(());
    }
    let world = shop("told").await?;
    let (relay, address) = dashboard(&world).await?;
    let base = address.split("/?").next().context("no address")?.to_owned();
    let socket = world.mesh()?.files().admin_socket().to_string_lossy().into_owned();
    let through = ["--unix-socket", socket.as_str()];
    only_its_own_page_is_answered(&through).await?;
    let stale = format!("{base}/?key=00000000000000000000000000000000");
    for (case, url, expected) in [
        ("nobody told them the key", format!("{base}/"), "403"),
        ("nor for questions", format!("{base}/api/v1/status"), "403"),
        ("a wrong key", stale, "403"),
        ("the key", address.clone(), "303"),
    ] {
        let status = status_of(&[url.as_str()]).await?;
        ensure!(status == expected, "{case}: {status}");
    }
    let identity = program::meshctl(&["identity", "--admin-socket", &socket, "-o", "json"]).await?;
    ensure!(
        identity.stdout.contains("\"rotation\": null"),
        "nothing was rotated: {}",
        identity.stdout
    );
    for (path, command) in [
        ("status", vec!["status"]),
        ("proxies", vec!["proxy", "status"]),
        ("identity", vec!["identity"]),
        ("routes", vec!["routes"]),
        ("stat?by=service&window=3600", vec!["stat", "svc", "-A", "--window", "1h"]),
        ("edges?window=3600", vec!["edges", "-A", "--window", "1h"]),
    ] {
        let url = own(&format!("/api/v1/{path}"));
        let asked = [&through[..], &["--fail", &url]].concat();
        let options = ["--admin-socket", &socket, "-o", "json"];
        let command = [&command[..], &options].concat();
        // What is known of a mesh that has just begun may have grown between the two questions.
        wait::until(&format!("{path} is told alike"), Duration::from_secs(30), async || {
            let ours = fields(&serde_json::from_str(&curl(&asked).await?)?);
            let theirs = fields(&serde_json::from_str(&program::meshctl(&command).await?.stdout)?);
            ensure!(ours == theirs, "{path} has {ours:?}, and meshctl {theirs:?}");
            ensure!(!ours.is_empty(), "{path} tells nothing");
            Ok(())
        })
        .await?;
    }
    drop(relay);
    world.finish().await
}

fn own(path: &str) -> String {
    format!("http://localhost{path}")
}

/// Whatever another page in the same browser may send.
async fn only_its_own_page_is_answered(through: &[&str]) -> Result<()> {
    let grpc = own("/heddle.admin.v1.Admin/RotateIdentity");
    for (case, arguments, expected) in [
        ("the user", vec![own("/api/v1/status")], "200"),
        ("a file of the page", vec![own("/app.js")], "200"),
        (
            "another name",
            vec!["--header".into(), "Host: evil.test".into(), own("/api/v1/status")],
            "421",
        ),
        (
            "another site",
            vec!["--header".into(), "Sec-Fetch-Site: cross-site".into(), own("/api/v1/status")],
            "403",
        ),
        (
            "another origin",
            vec!["--header".into(), "Origin: http://evil.test".into(), own("/api/v1/status")],
            "403",
        ),
        (
            "a rotation by a form",
            vec!["--data".into(), "\0\0\0\0\u{2}\u{8}\u{1}".replace('\0', "%00"), grpc.clone()],
            "405",
        ),
        (
            "a rotation that calls itself gRPC",
            vec![
                "--header".into(),
                "Content-Type: application/grpc".into(),
                "--data".into(),
                "x".into(),
                grpc,
            ],
            "405",
        ),
        ("a question that is none", vec![own("/api/v1/stat?window=1")], "400"),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let status = status_of(&[through, &arguments].concat()).await?;
        ensure!(status == expected, "{case}: {status}");
    }
    Ok(())
}

/// The demo's shop, with its load.
async fn shop(name: &str) -> Result<World> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../install/examples/shop");
    let mut plan = Plan::new(name).proxies(&["--telemetry-interval=1s"]);
    for file in ["frontend.yaml", "api.yaml", "store.yaml", "canary.yaml", "load.yaml"] {
        plan = plan.file(file, std::fs::read_to_string(folder.join(file))?);
    }
    plan.start().await
}

/// The dashboard, and its address. It ends with the process.
async fn dashboard(world: &World) -> Result<(Child, String)> {
    let socket = world.mesh()?.files().admin_socket();
    let mut command = Command::new(program::binaries()?.path("meshctl"));
    command.args(["dashboard", "--no-open", "--admin-socket"]).arg(socket);
    let mut relay = program::start(command)?;
    let stdout = relay.stdout.take().context("no standard output")?;
    let mut line = String::new();
    let mut lines = BufReader::new(stdout);
    let said = lines.read_line(&mut line);
    tokio::time::timeout(Duration::from_secs(30), said)
        .await
        .context("no address is printed")??;
    ensure!(line.starts_with("http://127.0.0.1:"), "it says {line:?}");
    Ok((relay, line.trim().to_owned()))
}

/// Until a script says yes.
async fn within(browser: &Browser, what: &str, script: &str, arguments: Value) -> Result<()> {
    wait::until(what, Duration::from_secs(90), async || {
        let said = browser.run(script, arguments.clone()).await?;
        if said == true {
            return Ok(());
        }
        let seen = browser.run("return document.body.innerText", json!([])).await?;
        anyhow::bail!("it says {said}; the page: {}", seen.as_str().unwrap_or_default())
    })
    .await
}

/// Until the map and its table have this share of requests to the second version.
async fn share_of_v2(browser: &Browser, low: u32, high: u32) -> Result<()> {
    let script = "const label = [...document.querySelectorAll('.label.share')].find((one) => one.dataset.link.endsWith('/api-v2'));
        const row = [...document.querySelectorAll('#lines ~ .scroll tbody tr')].find((one) => one.cells[0].textContent === 'api:8080' && one.cells[1].textContent === 'api-v2');
        if (!label || !row) return 'no line to api-v2';
        const of = (text) => parseInt(text.replace('–', '0'), 10);
        const found = [of(label.querySelector('.amount').textContent), of(row.cells[4].textContent)];
        return found.every((share) => share >= arguments[0] && share <= arguments[1]) || found.join(' and ');";
    within(browser, &format!("between {low} and {high} % go to v2"), script, json!([low, high]))
        .await
}

/// By the keyboard alone.
async fn tab_to(browser: &Browser, is_there: &str) -> Result<()> {
    for _ in 0..80 {
        browser.press(&[keys::TAB]).await?;
        if browser.run(&format!("return {is_there}"), json!([])).await? == true {
            let outline = "const style = getComputedStyle(document.activeElement); const rect = document.activeElement.querySelector('rect');
                return style.outlineStyle !== 'none' || (!!rect && parseFloat(getComputedStyle(rect).strokeWidth) >= 3)";
            ensure!(
                browser.run(outline, json!([])).await? == true,
                "nobody sees the focus: {is_there}"
            );
            return Ok(());
        }
    }
    anyhow::bail!("80 tabs do not lead to {is_there}")
}

async fn both_colours(browser: &Browser) -> Result<()> {
    let ground = "return getComputedStyle(document.body).backgroundColor";
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.chromium("Emulation.setEmulatedMedia", features).await?;
        grounds.push(browser.run(ground, json!([])).await?);
        browser.picture(&format!("map-{scheme}")).await?;
        contrasts(browser, &format!("the map, {scheme}")).await?;
    }
    let [light, dark] = grounds.as_slice() else { anyhow::bail!("not two colours") };
    ensure!(light != dark, "both are {light}");
    let choose = "const select = document.querySelector('#choose-colours'); select.value = arguments[0]; select.dispatchEvent(new Event('change', { bubbles: true })); return getComputedStyle(document.body).backgroundColor";
    ensure!(
        browser.run(choose, json!(["light"])).await? == *light,
        "a choice goes before the system"
    );
    ensure!(
        browser.run(choose, json!([""])).await? == *dark,
        "without one the system counts again"
    );
    let features = json!({"features": [{"name": "prefers-color-scheme", "value": "light"}]});
    browser.chromium("Emulation.setEmulatedMedia", features).await?;
    Ok(())
}

/// On a wide screen and on a narrow one: there is content, nothing sticks out, and a reader of the screen finds its way.
async fn every_page(browser: &Browser, address: &str) -> Result<()> {
    let base = address.split("/?").next().context("no address")?;
    for (name, hash, there) in [
        ("map", "#/", "svg.graph a.node"),
        ("services", "#/services", "tbody tr"),
        ("service", "#/services/default%2Fapi%3A8080", "figure path.line"),
        ("workloads", "#/workloads", "tbody tr"),
        ("workload", "#/workloads/default/Pod/api-v1", "figure path.line"),
        ("routes", "#/routes", "tbody tr"),
        ("route", "#/routes/TrafficSplit/default/api", "tbody tr"),
        ("tap", "#/tap", "#tap-subject"),
        ("config", "#/config", "tbody tr"),
        ("certificates", "#/certificates", "tbody .badge"),
        ("nowhere", "#/no/such/page", "h1"),
    ] {
        for (width, height) in [(1280, 800), (400, 800)] {
            let size =
                json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
            browser.chromium("Emulation.setDeviceMetricsOverride", size).await?;
            browser.open(&format!("{base}/{hash}")).await?;
            within(browser, &format!("{name} has content"), "return !!document.querySelector(arguments[0]) && !document.querySelector('main').textContent.includes('Asking the control plane')", json!([there])).await?;
            within(browser, &format!("{name} fits into {width} px"), "return document.documentElement.scrollWidth <= innerWidth || `${document.documentElement.scrollWidth} px wide`", json!([])).await?;
            let wrong = browser.run(include_str!("dashboard/accessible.js"), json!([])).await?;
            ensure!(wrong == json!([]), "{name} at {width} px: {wrong}");
            browser.picture(&format!("{name}-{width}")).await?;
        }
        contrasts(browser, name).await?;
    }
    browser.chromium("Emulation.clearDeviceMetricsOverride", json!({})).await?;
    browser.open(&format!("{base}/#/")).await
}

async fn contrasts(browser: &Browser, what: &str) -> Result<()> {
    let faint = browser.run(include_str!("dashboard/contrast.js"), json!([])).await?;
    ensure!(faint == json!([]), "{what} has text that is hard to read: {faint}");
    Ok(())
}

/// What the console said that is no news.
async fn complaints(browser: &Browser) -> Result<Vec<Value>> {
    let logged = browser.logged("browser").await?;
    let bad = |entry: &Value| entry["level"] == "SEVERE" || entry["level"] == "WARNING";
    Ok(logged.into_iter().filter(bad).collect())
}

async fn said_and_asked(browser: &Browser, address: &str) -> Result<()> {
    let complaints = complaints(browser).await?;
    ensure!(complaints.is_empty(), "the console: {complaints:?}");
    let own = format!("{}/", address.split("/?").next().context("no address")?);
    let mut asked = 0;
    for entry in browser.logged("performance").await? {
        let text = entry["message"].as_str().unwrap_or_default();
        let event: Value = serde_json::from_str(text)?;
        let event = &event["message"];
        let document = event["params"]["documentURL"].as_str().unwrap_or_default();
        // A browser begins with a page of its own.
        if event["method"] == "Network.requestWillBeSent" && !document.starts_with("chrome:") {
            let url = event["params"]["request"]["url"].as_str().context("no address")?;
            ensure!(url.starts_with(&own), "the page asks {url}");
            asked += 1;
        }
    }
    ensure!(asked > 50, "only {asked} requests were seen");
    Ok(())
}

async fn control_plane_comes_and_goes(world: &World, browser: &Browser) -> Result<()> {
    world.mesh()?.stop(Target::ControlPlane, Signal::Kill).await?;
    within(browser, "the page says that the control plane is gone, and when it was seen", "const said = document.querySelector('[role=status]').textContent; return said.includes('is gone') && said.includes('Last seen')", json!([])).await?;
    let kept = browser.run("return document.querySelectorAll('a.node').length", json!([])).await?;
    ensure!(kept.as_u64().is_some_and(|nodes| nodes > 3), "what was seen last stays: {kept}");
    browser.picture("gone").await?;
    world.mesh()?.start_again(Target::ControlPlane).await?;
    within(
        browser,
        "it says nothing when it is back",
        "return document.querySelector('[role=status]').textContent === ''",
        json!([]),
    )
    .await
}

async fn curl(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20"]).args(arguments);
    let said = program::finish(command, Duration::from_secs(30)).await?;
    ensure!(said.code == Some(0), "curl {arguments:?}: {}{}", said.stdout, said.stderr);
    Ok(said.stdout)
}

async fn status_of(arguments: &[&str]) -> Result<String> {
    curl(&[&["--output", "/dev/null", "--write-out", "%{http_code}"], arguments].concat()).await
}

/// The names of all fields, wherever they are; numbers move meanwhile.
fn fields(value: &Value) -> std::collections::BTreeSet<String> {
    let mut found = std::collections::BTreeSet::new();
    let mut rest = vec![(String::new(), value)];
    while let Some((path, value)) = rest.pop() {
        match value {
            Value::Object(inside) => {
                for (name, value) in inside {
                    let path = format!("{path}.{name}");
                    found.insert(path.clone());
                    rest.push((path, value));
                }
            }
            Value::Array(inside) => {
                rest.extend(inside.iter().map(|value| (format!("{path}[]"), value)))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    found
}

/// Every line of the map with traffic, but for those that only say who serves.
const LOCKED: &str = "const busy = [...document.querySelectorAll('.label')].filter((one) => !one.classList.contains('idle'));
    return busy.length >= 3 && busy.every((one) => one.querySelector('.lock.secured'))";

/// A file may have any name but one with a slash.
const HOSTILE: &str = "<img src=x onerror=\"document.title='hacked'\">.yaml";
