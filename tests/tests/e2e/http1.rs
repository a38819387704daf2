//! HTTP/1 as old and odd clients and servers speak it, and answers that come before their time.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_tests::applications::{http2, odd_http};
use heddle_tests::conversation::Conversation;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};

#[tokio::test]
async fn clients_of_http_1_0_and_pipelining_ones_are_served_as_they_expect() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let world = odd("http1").await?;
    let to = ("odd", 8080);

    // Without a host, and without keep-alive: the connection is the end of the answer.
    let read = Conversation::new()
        .send("GET /old-client HTTP/1.0\r\n\r\n")
        .rest()
        .held(&world, "client", to)
        .await?;
    ensure!(read[0].starts_with("HTTP/1.0 200 "), "{read:?}");
    ensure!(read[0].contains("\"path\": \"/old-client\""), "{read:?}");
    let own = world.service_addresses("odd").await?;
    let host = |address: &IpAddr| format!("\"host\": \"{}\"", SocketAddr::new(*address, 8080));
    let host = own.iter().any(|address| read[0].contains(&host(address)));
    ensure!(host, "no host of {own:?} in {read:?}");

    // An answer of unknown length to such a client is not chunked.
    let read = Conversation::new()
        .send("GET /until-close HTTP/1.0\r\n\r\n")
        .rest()
        .held(&world, "client", to)
        .await?;
    ensure!(read[0].ends_with("\r\n\r\nall of it"), "{read:?}");

    // With keep-alive, twice on one connection, and then no more.
    let again = "GET /again HTTP/1.0\r\nhost: odd\r\nconnection: keep-alive\r\n\r\n";
    let read = Conversation::new()
        .send(again)
        .until("\"body\": \"\"}")
        .send(again)
        .until("\"body\": \"\"}")
        .send("GET /last HTTP/1.0\r\nhost: odd\r\n\r\n")
        .rest()
        .held(&world, "client", to)
        .await?;
    ensure!(read[0].to_lowercase().contains("connection: keep-alive"), "{read:?}");
    ensure!(read[2].contains("\"/last\""), "{read:?}");

    // Three at once: the answers come in order.
    let pipelined: String =
        (1..=3).map(|n| format!("GET /{n} HTTP/1.1\r\nhost: odd\r\n\r\n")).collect();
    let with_body = "POST /4 HTTP/1.1\r\nhost: odd\r\ncontent-length: 4\r\n\r\nbodyGET /5 HTTP/1.1\r\nhost: odd\r\n\r\n";
    let mut conversation = Conversation::new().send(&(pipelined + with_body));
    for number in 1..=5 {
        conversation = conversation.until(&format!("\"path\": \"/{number}\"")).until("}");
    }
    let read = conversation.held(&world, "client", to).await?;
    ensure!(read[6].contains("/4") && read[8].contains("\"body\": \"body\""), "{read:?}");

    // Servers of HTTP/1.0, which end their answers with the connection, or keep it.
    for (path, answer) in
        [("/old", "from of old"), ("/old-keep-alive", "kept"), ("/old-keep-alive", "kept")]
    {
        let said = world.curl("client", &[&format!("http://odd:8080{path}")]).await?;
        ensure!(said == answer, "{path}: {said}");
    }
    world.finish().await
}

#[tokio::test]
async fn a_body_is_sent_when_its_own_server_asks_for_it() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let world = odd("continue").await?;
    let to = ("odd", 8080);
    let ask = |path: &str| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: odd\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n"
        );
        Conversation::new().send(&head)
    };
    let read = ask("/asks")
        // The server takes its time, and no proxy answers in its place.
        .quiet(0.2)
        .until("HTTP/1.1 100 Continue\r\n\r\n")
        .send("body")
        .until("}")
        .held(&world, "client", to)
        .await?;
    ensure!(read[1].contains("200 OK"), "{read:?}");
    ensure!(
        read[1].contains("\"early\": false, \"expect\": \"100-continue\", \"bytes\": 4"),
        "{read:?}"
    );

    // Refused: the body is never asked for, and the connection, of which nobody knows what comes next, ends.
    let read = ask("/refuses").rest().held(&world, "client", to).await?;
    ensure!(
        read[0].starts_with("HTTP/1.1 417 ") && read[0].contains("\"early\": false"),
        "{read:?}"
    );
    ensure!(read[0].to_lowercase().contains("connection: close"), "{read:?}");

    // A server that does not know the header gets the body all the same.
    let read = ask("/asks-never")
        .until("HTTP/1.1 100 ")
        .send("body")
        .until("}")
        .held(&world, "client", to)
        .await?;
    ensure!(read[1].contains("\"bytes\": 4"), "{read:?}");

    // And so does curl, whatever it decides by itself.
    let file = world.path("upload");
    std::fs::write(&file, vec![b'x'; 3_000_000])?;
    let data = format!("@{}", file.display());
    let upload = |path: &str| format!("http://odd:8080{path}");
    for (path, expected) in [("/asks", "\"bytes\": 3000000"), ("/asks-never", "\"bytes\": 3000000")]
    {
        let arguments = ["--http1.1", "-H", "expect: 100-continue", "--data-binary", &data];
        let said = world.curl("client", &[&arguments[..], &[&upload(path)]].concat()).await?;
        ensure!(said.contains(expected), "{path}: {said}");
    }

    // Other interim answers are passed over: hyper's server has no way to send them.
    let said = world.curl("client", &["--include", &upload("/hints")]).await?;
    ensure!(said.starts_with("HTTP/1.1 200 ") && said.ends_with("after the hints"), "{said}");
    world.finish().await
}

#[tokio::test]
async fn an_answer_that_comes_before_its_request_is_all_there_arrives() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Nghttp, Tool::Python])? {
        return Ok(());
    }
    let world = odd("early").await?;
    let file = world.path("upload");
    std::fs::write(&file, vec![b'x'; 20_000_000])?;
    let data = format!("@{}", file.display());
    let common = ["--output", "/dev/null", "--write-out", "%{http_code} %{http_version}"];
    let path = file.to_string_lossy().into_owned();
    for turn in 0..5 {
        for url in ["http://odd:8080/early", "http://odd:8080/early-and-reads"] {
            let arguments = ["--http1.1", "-H", "expect:", "--data-binary", &data, url];
            let arguments = [&common[..], &arguments].concat();
            let output = world.try_curl("client", &arguments).await?;
            ensure!(output.stdout_text() == "413 1.1", "turn {turn}: {url}: {output:?}");
        }
        // curl 7 takes the end of the stream, which comes with the answer, for an error.
        let nghttp = ["nghttp", "-v", "-d", &path, "http://two:9000/early"];
        let said = world.ask("client", &nghttp).await?;
        ensure!(said.contains(":status: 413"), "turn {turn}: {said}");
    }
    // The server that goes on reading gets all of it.
    let whole = ["--http2-prior-knowledge", "--data-binary", &data, "http://two:9000/count"];
    let said = world.curl("client", &whole).await?;
    ensure!(said == "Ok(20000000)", "{said}");
    world.finish().await
}

#[tokio::test]
async fn events_arrive_as_they_are_sent_and_a_silent_stream_goes_on() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Python])? {
        return Ok(());
    }
    let world = odd("events").await?;
    let stream = Conversation::new()
        .send("GET /events HTTP/1.1\r\nhost: odd\r\naccept: text/event-stream\r\n\r\n")
        .until("data: first\n\n\r\n")
        // Longer than any wait for first bytes, and for a body to be asked for.
        .quiet(3.0)
        .until("data: second\n\n\r\n")
        .until("data: third\n\n\r\n")
        .until("0\r\n\r\n");
    let tell = async {
        // The server goes on when it is told, which the stream is in no other way: each event must have
        // arrived for the client to be quiet, and none is sent before.
        stream_is_open(&world).await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        for event in ["first", "second", "third"] {
            world.curl("client", &[&format!("http://odd:8080/tell/{event}")]).await?;
        }
        anyhow::Ok(())
    };
    let (read, told) = tokio::join!(stream.held(&world, "client", ("odd", 8080)), tell);
    told?;
    let read = read?;
    ensure!(read[0].to_lowercase().contains("content-type: text/event-stream"), "{read:?}");
    world.finish().await
}

/// The proxy counts a request when the head of its response is there.
async fn stream_is_open(world: &World) -> Result<()> {
    wait::until("the stream is open", Duration::from_secs(10), async || {
        let metrics = Metrics::of(world, "client").await?;
        let labels = [("service", "default/odd:8080"), ("status", "200")];
        metrics.require("heddle_http_requests_total", &labels).map(drop)
    })
    .await
    .context("events")
}

async fn odd(name: &str) -> Result<World> {
    let two = http2(&["serve", "--port", "9000"])?;
    let pods = [
        Pod::new("odd").command(&odd_http(8080)).port(8080).strict(),
        Pod::new("two").command(&two).port(9000).strict(),
        Pod::new("client"),
    ];
    Plan::new(name)
        .file("pods.yaml", documents(&pods))
        .file(
            "services.yaml",
            documents(&[
                Service::new("odd").port(8080, 8080),
                Service::new("two").port(9000, 9000),
            ]),
        )
        .start()
        .await
}
