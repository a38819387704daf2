//! What the map takes of the processor while it moves, beside what an animation for each frame of the screen takes: both in
//! one run, so that the machine is the same.

use super::*;

#[tokio::test]
async fn the_map_moves_for_less_than_an_animation_of_each_frame_would() -> Result<()> {
    if requirements::skip(&[Tool::Chromium])? {
        return Ok(());
    }
    let world = shop("motion").await?;
    let (relay, address) = dashboard(&world).await?;
    let browser = Browser::start(1280, 800).await?;
    browser.open(&address).await?;
    let place = "return (document.querySelector('.flows')?.style.strokeDashoffset ?? '')";
    within(
        &browser,
        "lines have traffic",
        "return document.querySelectorAll('.flows .flow').length >= 3",
        json!([]),
    )
    .await?;
    let before = browser.run(place, json!([])).await?;
    within(&browser, "they move", &format!("{place} !== arguments[0]"), json!([before])).await?;

    // Other work of the machine shows in single rounds, and not in all of them.
    wait::until("it is cheaper", Duration::from_secs(120), async || {
        let moving = taken(&browser).await?;
        browser.run(EACH_FRAME, json!([])).await?;
        let each_frame = taken(&browser).await?;
        browser.run("document.adoptedStyleSheets = []", json!([])).await?;
        let ratio = each_frame.as_secs_f64() / moving.as_secs_f64().max(0.001);
        println!("in {ROUND:?}: {moving:?}, and {each_frame:?} for each frame: {ratio:.1} times");
        ensure!(ratio > 1.5, "{moving:?}, and {each_frame:?} for each frame");
        Ok(())
    })
    .await?;

    let wanted = json!({"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]});
    browser.chromium("Emulation.setEmulatedMedia", wanted).await?;
    within(&browser, "nothing moves for whoever wants it so", "const shown = [...document.querySelectorAll('.flow')].some((one) => getComputedStyle(one).display !== 'none'); return !shown", json!([])).await?;
    let still = taken(&browser).await?;
    println!("in {ROUND:?}: {still:?} where nothing moves");
    browser.end().await?;
    drop(relay);
    world.finish().await
}

async fn taken(browser: &Browser) -> Result<Duration> {
    let before = browser.drawing_time()?;
    tokio::time::sleep(ROUND).await;
    Ok(browser.drawing_time()?.saturating_sub(before))
}

/// Of what is measured: several of the page's own two seconds.
const ROUND: Duration = Duration::from_secs(6);

/// The same motion as an animation of the style.
const EACH_FRAME: &str = "
    const sheet = new CSSStyleSheet();
    sheet.replaceSync('@keyframes each { from { stroke-dashoffset: 22.1; } to { stroke-dashoffset: 0; } } .flows { animation: each 1.6s linear infinite; }');
    document.adoptedStyleSheets = [sheet];";
