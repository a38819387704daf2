//! Requests that ask for the connection itself: WebSocket, other protocols, CONNECT, over HTTP/1 and HTTP/2.

use anyhow::{Result, ensure};
use heddle_tests::applications::{http2, odd_http};
use heddle_tests::conversation::Conversation;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::requirements::{self, Tool};
use heddle_tests::world::{Plan, World};
use serde_json::{Value, json};

#[tokio::test]
async fn a_web_socket_carries_frames_of_any_size_both_ways_until_it_is_closed() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = odd("websocket").await?;
    let large = 3_000_000_usize;
    let conversation = Conversation::new()
        .send(
            "GET /websocket HTTP/1.1\r\nhost: odd\r\nupgrade: websocket\r\nconnection: keep-alive, Upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .until("\r\n\r\n")
        // Text, in a masked frame of 5 bytes, and its answer.
        .send(&frame(0x81, b"hello"))
        .read(2 + 14)
        // Two frames at once.
        .send(&(frame(0x81, b"one") + &frame(0x82, b"two")))
        .read(2 * (2 + 12))
        // A large one: the answer has its length in eight bytes.
        .send(&head(0x82, large))
        .fill(large)
        .read(10 + 9 + large)
        .send(&frame(0x88, b"\x03\xe8"))
        .rest();
    let read = conversation.held(&world, "client", ("odd", 8080)).await?;
    let response = read[0].to_lowercase();
    ensure!(response.starts_with("http/1.1 101 "), "{response}");
    // Source: RFC 6455, section 1.3, which has the same key.
    ensure!(read[0].contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{response}");
    ensure!(response.contains("upgrade: websocket"), "{response}");
    ensure!(read[1] == "\u{81}\u{e}answered-hello", "{:?}", read[1]);
    ensure!(read[2] == "\u{81}\u{c}answered-one\u{82}\u{c}answered-two", "{:?}", read[2]);
    ensure!(read[3] == format!("{} bytes", 10 + 9 + large), "{:?}", read[3]);
    ensure!(read[4] == "\u{88}\u{2}\u{3}\u{e8}", "{:?}", read[4]);
    world.finish().await
}

#[tokio::test]
async fn other_upgrades_pass_and_a_refused_one_is_an_ordinary_answer() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = odd("upgrades").await?;
    let upgrade = |path: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: odd\r\nupgrade: heddle-test\r\nconnection: upgrade\r\n\r\n"
        );
        Conversation::new().send(&request).until("\r\n\r\n")
    };
    let lines = |conversation: Conversation| {
        // The client ends its half, and is still answered.
        conversation.send("a line").until("answered-a line").fill(1_000_000).end().rest()
    };
    let taken = lines(upgrade("/upgrade").until("server first\n"));
    let read = taken.held(&world, "client", ("odd", 8080)).await?;
    ensure!(read[0].starts_with("HTTP/1.1 101 "), "{read:?}");
    ensure!(read[0].to_lowercase().contains("upgrade: heddle-test"), "{read:?}");
    ensure!(read[3] == "ended after 1000006 bytes\n", "{read:?}");

    // After a refusal the connection goes on as one of HTTP.
    let refused = upgrade("/no-upgrade")
        .until("an ordinary answer")
        .send("GET /again HTTP/1.1\r\nhost: odd\r\n\r\n")
        .until("\"/again\"");
    let read = refused.held(&world, "client", ("odd", 8080)).await?;
    ensure!(read[0].starts_with("HTTP/1.1 200 "), "{read:?}");

    // A tunnel that breaks is no tunnel that ends.
    let broken = upgrade("/upgrade-and-break").until("server first\n").send("x").rest();
    let heard = broken.hold(&world, "client", ("odd", 8080)).await?;
    let error = heard.error.clone().unwrap_or_default();
    ensure!(error.contains("ConnectionReset"), "{heard:?}");
    world.finish().await
}

#[tokio::test]
async fn connect_opens_a_tunnel_over_either_version() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = odd("connect").await?;
    let connect = |target: &str| {
        let request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
        Conversation::new().send(&request).until("\r\n\r\n")
    };
    let read = connect("far.example:443")
        .send("a line")
        .until("answered-a line")
        .fill(1_000_000)
        .end()
        .rest()
        .held(&world, "client", ("odd", 8080))
        .await?;
    ensure!(read[0].starts_with("HTTP/1.1 200 "), "{read:?}");
    ensure!(read[2] == "ended after 1000006 bytes\n", "{read:?}");
    let refused = connect("closed.example:443").until("not there");
    let read = refused.held(&world, "client", ("odd", 8080)).await?;
    ensure!(read[0].starts_with("HTTP/1.1 403 "), "{read:?}");

    let tunnel = async |target: &str, protocol: Option<&str>| {
        let mut arguments = vec!["tunnel", "--target", target];
        if let Some(protocol) = protocol {
            arguments.extend(["--protocol", protocol]);
        }
        let said = world.ask("client", &http2(&arguments)?).await?;
        anyhow::Ok(serde_json::from_str::<Value>(&said)?)
    };
    let opened = |what: &str| {
        let said = format!("tunnel for {what}\nanswered-line\nended after 3000004 bytes\n");
        json!({ "status": 200, "said": said })
    };
    for (target, protocol, expected) in [
        ("both:9000", None, opened("bytes")),
        ("both:9000", Some("websocket"), opened("websocket")),
        ("both:9000", Some("unknown"), json!({ "status": 501, "said": "no such protocol" })),
        ("plain:9000", None, opened("bytes")),
    ] {
        let said = tunnel(target, protocol).await?;
        ensure!(said == expected, "{target} {protocol:?}: {said}");
    }
    // What the server does not take, the proxies do not send it: that would be an error of protocol.
    let said = tunnel("plain:9000", Some("websocket")).await?;
    ensure!(said["status"] == 501, "{said}");
    ensure!(said["said"].as_str().is_some_and(|said| said.contains("extended CONNECT")), "{said}");
    world.finish().await
}

async fn odd(name: &str) -> Result<World> {
    let odd = Pod::new("odd").command(&odd_http(8080)).port(8080).strict();
    let both = http2(&["serve", "--port", "9000", "--extended-connect"])?;
    let both = Pod::new("both").command(&both).port(9000).strict();
    let plain =
        Pod::new("plain").command(&http2(&["serve", "--port", "9000"])?).port(9000).strict();
    let services = [
        Service::new("odd").port(8080, 8080),
        Service::new("both").port(9000, 9000),
        Service::new("plain").port(9000, 9000),
    ];
    Plan::new(name)
        .file("pods.yaml", documents(&[odd, both, plain, Pod::new("client")]))
        .file("services.yaml", documents(&services))
        .start()
        .await
}

/// A masked frame whose mask is zero (RFC 6455, section 5.2), each byte a character.
fn frame(first: u8, payload: &[u8]) -> String {
    head(first, payload.len()) + &payload.iter().map(|byte| char::from(*byte)).collect::<String>()
}

fn head(first: u8, length: usize) -> String {
    let mut bytes = vec![first];
    match (u8::try_from(length), u64::try_from(length)) {
        (Ok(short), _) if short < 126 => bytes.push(0x80 | short),
        (_, length) => {
            bytes.push(0xff);
            bytes.extend(length.unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.into_iter().map(char::from).collect()
}
