//! Many good connections at once: each has had an answer, and is kept, or waits for one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Connections that had their first answer.
    pub answered: usize,
    /// Those that had another one at the end.
    pub answered_again: usize,
    /// Why others did not.
    pub error: Option<String>,
}

/// Opens so many connections, asks on each once, keeps them all for `time`, and asks once more.
pub async fn hold(address: &str, path: &str, (connections, time): (usize, Duration)) -> Held {
    let mut held = Held::default();
    let mut streams = Vec::new();
    let mut asking = tokio::task::JoinSet::new();
    for _connection in 0..connections {
        let (address, path) = (address.to_owned(), path.to_owned());
        asking.spawn(async move {
            let mut stream = TcpStream::connect(&address).await.context("cannot connect")?;
            ask(&mut stream, &path).await?;
            Ok::<_, anyhow::Error>(stream)
        });
        // Not more at once than a listener's queue takes.
        tokio::time::sleep(PAUSE).await;
    }
    while let Some(asked) = asking.join_next().await {
        match asked {
            Ok(Ok(stream)) => streams.push(stream),
            Ok(Err(error)) => held.error = Some(format!("{error:#}")),
            Err(error) => held.error = Some(error.to_string()),
        }
    }
    held.answered = streams.len();
    tokio::time::sleep(time).await;
    for mut stream in streams {
        match ask(&mut stream, "/").await {
            Ok(()) => held.answered_again += 1,
            Err(error) => held.error = Some(format!("{error:#}")),
        }
    }
    held
}

async fn ask(stream: &mut TcpStream, path: &str) -> Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: server\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("cannot ask")?;
    let mut answer = Vec::new();
    // The body is short, and comes with the head or soon after.
    while !answer.ends_with(b"\r\n\r\nok") {
        let length = stream.read_buf(&mut answer).await.context("no answer")?;
        let good = answer.iter().zip(b"HTTP/1.1 200 ").all(|(byte, expected)| byte == expected);
        let text = String::from_utf8_lossy(&answer);
        ensure!(length > 0 && good && answer.len() < 4096, "an answer that is none: {text}");
    }
    Ok(())
}

const PAUSE: Duration = Duration::from_millis(2);
