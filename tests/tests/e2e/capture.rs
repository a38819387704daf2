//! What somebody on the wire can read: nothing of the mesh's, and everything of others.

use anyhow::{Result, ensure};
use heddle_tests::applications::{echo_http, echo_tcp, tcp_client};
use heddle_tests::capture;
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::requirements::{self, Tool};
use heddle_tests::world::{Plan, World};

#[tokio::test]
async fn no_byte_of_a_request_or_a_response_is_in_plain_text_on_the_bridge() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python, Tool::Tcpdump])? {
        return Ok(());
    }
    let world = Plan::new("capture")
        .file("servers.yaml", servers())
        .file("clients.yaml", documents(&[Pod::new("client"), Pod::new("plain-client").unmeshed()]))
        .start()
        .await?;
    let plain_http = world.address("plain-http").await?.to_string();
    let plain_tcp = world.address("plain-tcp").await?.to_string();
    let traffic = async {
        say(&world, "client", "http", "secret-").await?;
        say_lines(&world, "client", "tcp", "secret-").await?;
        // The same without a mesh, last: what is readable is found, and so was everything before it.
        say(&world, "plain-client", &plain_http, "open-").await?;
        say_lines(&world, "plain-client", &plain_tcp, "open-").await
    };
    let ((), capture) = Box::pin(capture::during(&world, traffic, "answered-open-line")).await?;
    for said in ["header", "body", "line", "path"] {
        ensure!(capture.holds(&format!("open-{said}")), "the capture misses the open {said}");
        ensure!(
            !capture.holds(&format!("secret-{said}")),
            "the secret {said} can be read on the bridge"
        );
    }
    for answered in ["answered-header-", "answered-body-"] {
        ensure!(capture.holds(&format!("{answered}open-")), "the capture misses an answer");
    }
    world.finish().await
}

#[tokio::test]
async fn nothing_of_the_demos_shop_can_be_read_on_the_bridge() -> Result<()> {
    if requirements::skip(&[Tool::Python, Tool::Tcpdump])? {
        return Ok(());
    }
    // What the frontend, the api and the store say to each other.
    let readable = [
        "GET / HTTP/1.1",
        "x-shop-version",
        "\"shop\":\"heddle\"",
        "\"items\":",
        "COUNT\n",
        "OK 128\n",
    ];
    let plain = shop(Plan::new("plain-shop").without_mesh()).await?;
    let traffic = buy(&plain);
    let ((), capture) = Box::pin(capture::during(&plain, traffic, "OK 128\n")).await?;
    for text in readable {
        ensure!(capture.holds(text), "{text:?} is not in the capture of a shop without a mesh");
    }
    plain.finish().await?;

    let meshed = shop(Plan::new("shop")).await?;
    let bystander = meshed.address("bystander").await?;
    let traffic = async {
        buy(&meshed).await?;
        let url = format!("http://{bystander}:8080/last-and-readable");
        // It answers 502, since it has no store; but it was asked in plain text.
        Load::on(&url).requests(1).run(&meshed, "onlooker").await.map(drop)
    };
    let ((), capture) = Box::pin(capture::during(&meshed, traffic, "/last-and-readable")).await?;
    ensure!(capture.size_bytes() > 20_000, "the capture is almost empty");
    for text in readable.into_iter().filter(|text| !text.starts_with("x-shop")) {
        ensure!(!capture.holds(text), "{text:?} can be read on the bridge");
    }
    meshed.finish().await
}

/// The demo's own manifests, and two pods that are not of the mesh.
async fn shop(mut plan: Plan) -> Result<World> {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../install/examples/shop");
    for name in ["api.yaml", "canary.yaml", "frontend.yaml", "store.yaml"] {
        plan = plan.file(name, std::fs::read_to_string(format!("{examples}/{name}"))?);
    }
    let bystander = ["meshctl", "shop", "api", "--listen", "8080", "--store", "localhost:9"];
    plan.file("customer.yaml", Pod::new("customer").to_string())
        .file(
            "bystander.yaml",
            Pod::new("bystander").unmeshed().command(&bystander).port(8080).to_string(),
        )
        .file("onlooker.yaml", Pod::new("onlooker").unmeshed().to_string())
        .start()
        .await
}

async fn buy(world: &World) -> Result<()> {
    Load::on("http://frontend:8080/").requests(200).run(world, "customer").await?.nothing_lost()
}

fn servers() -> String {
    let http = Pod::new("http").command(&echo_http(8080, "http")).port(8080);
    let tcp = Pod::new("tcp").command(&echo_tcp(7000)).port(7000);
    let plain_http = Pod::new("plain-http").command(&echo_http(8080, "http")).port(8080).unmeshed();
    let plain_tcp = Pod::new("plain-tcp").command(&echo_tcp(7000)).port(7000).unmeshed();
    let services = [Service::new("http").port(8080, 8080), Service::new("tcp").port(7000, 7000)];
    format!("{}\n---\n{}", documents(&[http, tcp, plain_http, plain_tcp]), documents(&services))
}

/// A request and its answer, with marks in path, header and body.
async fn say(world: &World, from: &str, host: &str, mark: &str) -> Result<()> {
    let url = format!("http://{host}:8080/{mark}path");
    let header = format!("x-mark: {mark}header");
    let body = format!("{mark}body");
    let answer =
        world.curl(from, &["--include", "--header", &header, "--data", &body, &url]).await?;
    for expected in [format!("answered-header-{mark}header"), format!("answered-body-{mark}body")] {
        ensure!(answer.contains(&expected), "no {expected:?} in {answer}");
    }
    Ok(())
}

/// A line over TCP, and its answer.
async fn say_lines(world: &World, from: &str, host: &str, mark: &str) -> Result<()> {
    let line = format!("{mark}line\n").into_bytes();
    let output = world.run_with_input(from, &tcp_client(host, 7000), line).await?;
    let answer = output.stdout_text();
    ensure!(answer.contains(&format!("answered-{mark}line")), "{answer}{}", output.stderr_text());
    Ok(())
}
