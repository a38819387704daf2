//! The page "Tap": it shows the requests that match and no others, keeps few of them, is quiet to whoever hears it, says
//! why nothing comes, and the tap ends with it.

use heddle_tests::metrics::Metrics;

use super::*;

#[tokio::test]
async fn the_tap_page_shows_what_matches_and_ends_with_the_page() -> Result<()> {
    if requirements::skip(&[Tool::Chromium, Tool::Curl])? {
        return Ok(());
    }
    let world = shop("taps").await?;
    let (relay, address) = dashboard(&world).await?;
    let base = address.split("/?").next().context("no address")?.to_owned();
    let browser = Browser::start(1280, 900).await?;
    browser.open(&address).await?;
    browser.open(&format!("{base}/#/tap")).await?;
    within(&browser, "the workload can be chosen", "return [...document.querySelectorAll('#tap-subject option')].some((one) => one.value === 'default pod/load')", json!([])).await?;
    runs(&world, 0).await?;
    exactly_what_matches(&world, &browser).await?;
    told_in_detail(&browser).await?;
    paused(&world, &browser).await?;
    few_are_kept_and_nobody_is_flooded(&world, &browser).await?;
    refusals(&world, &browser, &address).await?;

    set(&browser, "path", "/never").await?;
    press_button(&browser, "Start").await?;
    within(&browser, "it says why nothing comes", "return document.querySelector('#standing').textContent.includes('No request yet; 1 proxy looks for one. None that matches')", json!([])).await?;
    runs(&world, 1).await?;
    browser.open(&format!("{base}/#/services")).await?;
    runs(&world, 0).await.context("the page was left")?;
    browser.open(&format!("{base}/#/tap")).await?;
    press_button(&browser, "Start").await?;
    runs(&world, 1).await?;
    ensure!(complaints_but_refusals(&browser).await? == [Value::Null; 0], "the console");
    browser.end().await?;
    runs(&world, 0).await.context("the browser is gone")?;
    drop(relay);
    world.finish().await
}

async fn exactly_what_matches(world: &World, browser: &Browser) -> Result<()> {
    choose(browser, "subject", "default pod/load").await?;
    choose(browser, "direction", "outbound").await?;
    set(browser, "method", "GET").await?;
    set(browser, "path", "/wanted").await?;
    set(browser, "status", "2xx").await?;
    set(browser, "to", "svc/frontend.default").await?;
    set(browser, "rate", "1000").await?;
    // By the keyboard: the form is sent from where one types.
    tab_to(browser, "document.activeElement.id === 'tap-rate'").await?;
    browser.press(&[keys::ENTER]).await?;
    live(browser).await?;
    ask(world, &["http://frontend:8080/wanted/[1-30]?token=hunter2Secret99"]).await?;
    ask(world, &["http://frontend:8080/other/[1-30]"]).await?;
    ask(world, &["--head", "http://frontend:8080/wanted/head"]).await?;
    // What does not match would have been told before it.
    ask(world, &["http://frontend:8080/wanted/last"]).await?;
    let shown = "return [...document.querySelectorAll('[data-row]')].map((one) => one.textContent)";
    within(
        browser,
        "the last is shown",
        "return document.querySelector('[data-row]')?.textContent === 'GET /wanted/last'",
        json!([]),
    )
    .await?;
    let mut expected: Vec<String> =
        (1..=30).map(|number| format!("GET /wanted/{number}")).collect();
    expected.push("GET /wanted/last".to_owned());
    expected.reverse();
    let rows = browser.run(shown, json!([])).await?;
    ensure!(rows == json!(expected), "{rows}");
    browser.run("scrollTo(0, 0)", json!([])).await?;
    browser.picture("tap-rows").await?;
    let cells = browser
        .run(
            "return [...document.querySelector('tbody tr').cells].map((one) => one.textContent)",
            json!([]),
        )
        .await?;
    let cells = cells.as_array().context("no cells")?;
    let expected = [
        (1, "200"),
        (3, "default/load"),
        (4, "default/frontend:8080"),
        (5, "sent"),
        (6, "mutual TLS"),
    ];
    for (place, text) in expected {
        ensure!(cells.get(place) == Some(&json!(text)), "{place} is not {text}: {cells:?}");
    }
    Ok(())
}

async fn told_in_detail(browser: &Browser) -> Result<()> {
    tab_to(browser, "document.activeElement.dataset.row !== undefined").await?;
    browser.press(&[keys::ENTER]).await?;
    within(browser, "the detail is there, and the focus at its title", "return document.activeElement.id === 'detail' && document.activeElement.textContent === 'GET /wanted/last'", json!([])).await?;
    let detail =
        browser.run("return document.querySelector('.detail').innerText", json!([])).await?;
    let detail = detail.as_str().unwrap_or_default();
    for text in [
        "spiffe://cluster.local/ns/default/sa/frontend",
        "default/frontend:8080",
        "To the head of the answer",
    ] {
        ensure!(detail.contains(text), "no {text} in {detail}");
    }
    ensure!(!detail.contains("hunter2"), "{detail}");
    let wrong = browser.run(include_str!("accessible.js"), json!([])).await?;
    ensure!(wrong == json!([]), "{wrong}");
    for scheme in ["dark", "light"] {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.chromium("Emulation.setEmulatedMedia", features).await?;
        contrasts(browser, &format!("the tap, {scheme}")).await?;
        browser.picture(&format!("tap-{scheme}")).await?;
    }
    browser.press(&[keys::ESCAPE]).await?;
    within(browser, "it is closed, and the focus where it was opened", "return !document.querySelector('.detail') && document.activeElement.dataset.row !== undefined", json!([])).await
}

async fn paused(world: &World, browser: &Browser) -> Result<()> {
    press_button(browser, "Pause").await?;
    ask(world, &["http://frontend:8080/wanted/held/[1-5]"]).await?;
    within(
        browser,
        "five are held back",
        "return document.querySelector('#standing').textContent.includes('5 held back')",
        json!([]),
    )
    .await?;
    let rows =
        browser.run("return document.querySelectorAll('[data-row]').length", json!([])).await?;
    ensure!(rows == 31, "{rows} while it is paused");
    press_button(browser, "Pause").await?;
    within(
        browser,
        "they are shown",
        "return document.querySelectorAll('[data-row]').length === 36",
        json!([]),
    )
    .await
}

async fn few_are_kept_and_nobody_is_flooded(world: &World, browser: &Browser) -> Result<()> {
    let watch = "window.told = []; new MutationObserver(() => window.told.push(document.querySelector('#state').textContent)).observe(document.querySelector('#state'), { childList: true, characterData: true, subtree: true })";
    browser.run(watch, json!([])).await?;
    ask(world, &["http://frontend:8080/wanted/many/[1-300]"]).await?;
    let all = "const said = document.querySelector('#standing').textContent; return said.includes('336 requests so far') || said";
    within(browser, "all are counted", all, json!([])).await?;
    let rows = browser.run("return [document.querySelectorAll('[data-row]').length, document.querySelector('[data-row]').textContent]", json!([])).await?;
    ensure!(rows == json!([200, "GET /wanted/many/300"]), "{rows}");
    let told = browser.run("return window.told", json!([])).await?;
    let told = told.as_array().context("nothing was watched")?.len();
    // Once in ten seconds, however many come; the machine may be slow.
    ensure!(told <= 20, "{told} times something was read aloud");
    Ok(())
}

/// What is refused is said, with what would do.
async fn refusals(world: &World, browser: &Browser, address: &str) -> Result<()> {
    set(browser, "peer", "web").await?;
    press_button(browser, "Start anew").await?;
    within(
        browser,
        "a word that cannot be meant",
        "return document.querySelector('#standing').textContent.includes('want NAMESPACE/ACCOUNT')",
        json!([]),
    )
    .await?;
    set(browser, "peer", "").await?;
    runs(world, 0).await?;

    // As many as one dashboard may have, by somebody who has its key.
    let base = address.split("/?").next().context("no address")?;
    let entered = curl(&["--output", "/dev/null", "--dump-header", "-", address]).await?;
    let cookie =
        entered.lines().find_map(|line| line.strip_prefix("set-cookie: ")).context("no cookie")?;
    let cookie = cookie.split(';').next().unwrap_or_default();
    let url = format!("{base}/api/v1/tap?namespace=default&resource=pod/load");
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut command = Command::new("curl");
        command.args(["--silent", "--no-buffer", "--cookie", cookie, &url]);
        others.push(program::start(command)?);
    }
    runs(world, 3).await?;
    press_button(browser, "Start").await?;
    within(browser, "no more may be open", "return document.querySelector('#standing').textContent.includes('as many taps open as it may')", json!([])).await?;
    browser.picture("tap-refused").await?;
    // The lines are those of meshctl.
    let mut first = others.remove(0);
    let mut lines = BufReader::new(first.stdout.take().context("no standard output")?).lines();
    let exchange = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let line = lines.next_line().await?.context("it has ended")?;
            if line.contains("\"exchange\"") {
                return anyhow::Ok(serde_json::from_str::<Value>(&line)?);
            }
        }
    });
    let exchange = exchange.await.context("no request is told")??;
    let socket = world.mesh()?.files().admin_socket().to_string_lossy().into_owned();
    let theirs = program::meshctl(&[
        "tap",
        "pod/load",
        "--count",
        "1",
        "-o",
        "json",
        "--admin-socket",
        &socket,
    ])
    .await?;
    let theirs = theirs
        .stdout
        .lines()
        .find(|line| line.contains("\"exchange\""))
        .context("meshctl tells none")?;
    let theirs = fields(&serde_json::from_str(theirs)?);
    ensure!(fields(&exchange) == theirs, "{exchange} has other fields than {theirs:?}");
    drop((first, others));
    // Who asked is gone, and the taps with them.
    runs(world, 0).await
}

async fn ask(world: &World, arguments: &[&str]) -> Result<()> {
    world.curl("load", &[&["--fail", "--output", "/dev/null"], arguments].concat()).await?;
    Ok(())
}

/// Until so many taps run.
async fn runs(world: &World, expected: u32) -> Result<()> {
    wait::until(&format!("{expected} taps run"), Duration::from_secs(30), async || {
        let metrics = Metrics::of_control_plane(world).await?;
        let taps = metrics.require("heddle_control_plane_taps", &[])?;
        ensure!(taps == f64::from(expected), "{taps} run");
        Ok(())
    })
    .await
}

async fn live(browser: &Browser) -> Result<()> {
    within(
        browser,
        "a proxy looks",
        "return document.querySelector('#standing').textContent.startsWith('live 1 proxy looks')",
        json!([]),
    )
    .await
}

async fn choose(browser: &Browser, name: &str, value: &str) -> Result<()> {
    let script = "const select = document.getElementById(`tap-${arguments[0]}`); select.value = arguments[1]; select.dispatchEvent(new Event('change', { bubbles: true })); return select.value";
    let chosen = browser.run(script, json!([name, value])).await?;
    ensure!(chosen == value, "{name} is {chosen}");
    Ok(())
}

async fn set(browser: &Browser, name: &str, value: &str) -> Result<()> {
    let script = "const input = document.getElementById(`tap-${arguments[0]}`); input.value = arguments[1]; input.dispatchEvent(new Event('input', { bubbles: true }))";
    browser.run(script, json!([name, value])).await?;
    Ok(())
}

async fn press_button(browser: &Browser, text: &str) -> Result<()> {
    let script = "const button = [...document.querySelectorAll('main button')].find((one) => one.textContent === arguments[0]); button?.click(); return !!button";
    within(browser, &format!("{text} can be pressed"), script, json!([text])).await
}

/// A browser writes down each answer that is a refusal; two were asked for.
async fn complaints_but_refusals(browser: &Browser) -> Result<Vec<Value>> {
    let is_asked_for = |entry: &Value| {
        let text = entry["message"].as_str().unwrap_or_default();
        text.contains("/api/v1/tap?") && (text.contains("400") || text.contains("429"))
    };
    Ok(complaints(browser).await?.into_iter().filter(|entry| !is_asked_for(entry)).collect())
}
