//! HTTP/1.1 at the least price: the same bytes each time, and of the answer only what shows that it is whole.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Target;
use super::tcp;

/// A connection.
pub struct Http1 {
    target: Arc<Target>,
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Http1 {
    /// A new one.
    pub async fn connect(target: &Arc<Target>) -> Result<Self> {
        Ok(Self {
            stream: tcp::connect(target).await?,
            request: request(target, "keep-alive"),
            answer: Vec::with_capacity(ANSWER_LIMIT_BYTES),
            target: Arc::clone(target),
        })
    }

    /// A new one instead of this one.
    pub async fn reconnect(&mut self) -> Result<()> {
        *self = Self::connect(&Arc::clone(&self.target)).await?;
        Ok(())
    }

    /// One request and its whole answer, which has to be 200.
    pub async fn exchange(&mut self) -> Result<u64> {
        self.stream.write_all(&self.request).await.context("send a request")?;
        self.answer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.answer).await.context("read an answer")?;
            ensure!(read > 0, "the connection ended within an answer");
            if let Some(length) = whole_answer(&self.answer)? {
                ensure!(length == self.answer.len(), "more than one answer to one request");
                return Ok(bytes(self.request.len() + length));
            }
        }
    }
}

/// One request on a connection of its own, which the server closes.
pub async fn exchange_once(target: &Target) -> Result<u64> {
    let mut stream = tcp::connect(target).await?;
    let request = request(target, "close");
    stream.write_all(&request).await.context("send a request")?;
    let mut answer = Vec::with_capacity(ANSWER_LIMIT_BYTES);
    let mut limited = (&mut stream).take(bytes(ANSWER_LIMIT_BYTES));
    limited.read_to_end(&mut answer).await.context("read an answer")?;
    let length = whole_answer(&answer)?.context("the connection ended within an answer")?;
    Ok(bytes(request.len() + length))
}

fn request(target: &Target, connection: &str) -> Vec<u8> {
    let Target { host, marker, address } = target;
    format!(
        "GET /{marker} HTTP/1.1\r\nhost: {host}:{}\r\nuser-agent: heddle-bench\r\naccept: */*\r\n\
         connection: {connection}\r\n\r\n",
        address.port()
    )
    .into_bytes()
}

/// The length of the answer if all of it is there.
fn whole_answer(bytes: &[u8]) -> Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_LIMIT];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = answer.parse(bytes).context("an answer's head")? else {
        ensure!(bytes.len() < ANSWER_LIMIT_BYTES, "a head without an end");
        return Ok(None);
    };
    ensure!(answer.code == Some(200), "the answer is {:?}", answer.code);
    let header =
        |name: &str| answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let Some(length) = header("content-length") else { bail!("an answer without a length") };
    let length: usize = std::str::from_utf8(length.value)?.parse()?;
    Ok((bytes.len() >= head + length).then_some(head + length))
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Far more than the server's answer and what proxies add to it.
const ANSWER_LIMIT_BYTES: usize = 8 * 1024;
const HEADERS_LIMIT: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        for (case, answer, expected) in [
            ("nothing", "", Ok(None)),
            ("half a head", "HTTP/1.1 200 OK\r\ncontent-le", Ok(None)),
            ("half a body", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab", Ok(None)),
            ("all", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", Ok(Some(42))),
            ("another status", "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", Err(())),
            ("no length", "HTTP/1.1 200 OK\r\n\r\n", Err(())),
            ("not HTTP", "220 smtp\r\n", Err(())),
        ] {
            let found = whole_answer(answer.as_bytes()).map_err(drop);
            assert_eq!(found, expected, "case: {case}");
        }
    }
}
