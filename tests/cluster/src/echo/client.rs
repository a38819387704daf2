//! The client: sends the same request some times, one after the other, as an ordinary application would, and
//! prints what came back. It follows no redirects.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use heddle_runtime::tasks::Tasks;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};

use crate::echo::grpc::{self, Words};

/// What is sent. The names of the arguments are those that the suite uses.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// `http://host/path`, or `grpc://host:port`
    pub url: Uri,
    /// The method, of HTTP
    #[arg(long, default_value = "GET")]
    pub method: Method,
    /// A header, such as `x-header:value`; `Host` as well
    #[arg(short = 'H', long = "header", value_parser = header, allow_hyphen_values = true)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How often
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=COUNT_LIMIT))]
    pub count: u32,
}

/// Sends the requests, and writes a block of lines for every answer, with an empty line after it. Fails with
/// the first request that is not answered; what an answer says is no failure.
pub async fn run(settings: &Settings, tasks: &Tasks, out: &mut impl Write) -> Result<()> {
    let authority = settings.url.authority().context("the URL names no host")?.as_str();
    match settings.url.scheme_str() {
        Some("http") => requests(settings, tasks, out).await,
        Some("grpc") => calls(settings, authority, out).await,
        Some(other) => bail!("{other}: is not spoken here (want http or grpc)"),
        None => bail!("{}: is no URL (want one such as http://echo/)", settings.url),
    }
}

async fn requests(settings: &Settings, tasks: &Tasks, out: &mut impl Write) -> Result<()> {
    let mut kept = None;
    for number in 0..settings.count {
        let answer = tokio::time::timeout(ANSWER_LIMIT, request(settings, &mut kept, tasks));
        let answer = answer.await.with_context(|| format!("no answer in {ANSWER_LIMIT:?}"))?;
        let answer = answer.with_context(|| format!("request {number} to {}", settings.url))?;
        write!(out, "{}", answer.block(number, &settings.url))?;
    }
    Ok(())
}

type Sender = SendRequest<Empty<Bytes>>;

/// Uses the connection of the request before while it is there, and asks again where it ended meanwhile.
async fn request(settings: &Settings, kept: &mut Option<Sender>, tasks: &Tasks) -> Result<Answer> {
    if let Some(mut sender) = kept.take()
        && sender.ready().await.is_ok()
    {
        match ask(settings, &mut sender).await {
            Ok(answer) => {
                *kept = Some(sender);
                return Ok(answer);
            }
            Err(error) if is_stale(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let mut sender = connect(&settings.url, tasks).await?;
    let answer = ask(settings, &mut sender).await?;
    *kept = Some(sender);
    Ok(answer)
}

/// Whether nobody can have seen the request: its connection had ended before.
fn is_stale(error: &anyhow::Error) -> bool {
    let found = error.downcast_ref::<hyper::Error>();
    found.is_some_and(|error| error.is_canceled() || error.is_closed())
}

async fn connect(url: &Uri, tasks: &Tasks) -> Result<Sender> {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, url.port_u16().unwrap_or(HTTP_PORT))).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its errors reach whoever waits for an answer.
    tasks.spawn_quiet(async move { drop(connection.await) });
    Ok(sender)
}

async fn ask(settings: &Settings, sender: &mut Sender) -> Result<Answer> {
    let url = &settings.url;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut request =
        Request::builder().method(settings.method.clone()).uri(path).body(Empty::new())?;
    *request.headers_mut() = request_headers(settings)?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body =
        Limited::new(body, BODY_LIMIT_BYTES).collect().await.map_err(|error| anyhow!(error))?;
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Ok(Answer { code: Some(head.status.as_u16()), headers: head.headers, body })
}

fn request_headers(settings: &Settings) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let authority = settings.url.authority().context("the URL names no host")?;
    headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    for (name, value) in &settings.headers {
        // Two hosts would make a bad request of it.
        if *name == HOST {
            headers.insert(name, value.clone());
        } else {
            headers.append(name, value.clone());
        }
    }
    Ok(headers)
}

async fn calls(settings: &Settings, authority: &str, out: &mut impl Write) -> Result<()> {
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))?
        .connect_timeout(ANSWER_LIMIT)
        .timeout(ANSWER_LIMIT)
        .user_agent(AGENT)?;
    let channel = endpoint.connect().await.with_context(|| settings.url.to_string())?;
    let mut client = tonic::client::Grpc::new(channel);
    for number in 0..settings.count {
        let answer = call(settings, &mut client).await;
        let answer = answer.with_context(|| format!("call {number} to {}", settings.url))?;
        write!(out, "{}", answer.block(number, &settings.url))?;
    }
    Ok(())
}

async fn call(settings: &Settings, client: &mut tonic::client::Grpc<Channel>) -> Result<Answer> {
    client.ready().await?;
    let headers: HeaderMap = settings.headers.iter().cloned().collect();
    ensure!(!headers.contains_key(HOST), "the host of a call is that of its URL");
    let mut request = tonic::Request::new(Words { message: AGENT.to_owned() });
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    let codec = grpc::Codec::default();
    let response: tonic::Response<Words> = client.unary(request, grpc::METHOD, codec).await?;
    let (metadata, words, _) = response.into_parts();
    // The server's lines say how the call ended.
    Ok(Answer { code: None, headers: metadata.into_headers(), body: words.message })
}

/// What came back.
#[derive(Clone, Debug)]
struct Answer {
    /// `None`: the body says.
    code: Option<u16>,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    /// As the suite reads it. The server's lines come last, so that no word of theirs is taken for the client's.
    fn block(&self, number: u32, url: &Uri) -> String {
        let mut lines = vec![format!("[{number}] Url={url}")];
        lines.extend(self.code.map(|code| format!("[{number}] StatusCode={code}")));
        for (name, value) in &self.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            lines.push(format!("[{number}] ResponseHeader={name}:{value}"));
        }
        // An empty line would end the block.
        let said = self.body.lines().filter(|line| !line.trim().is_empty());
        lines.extend(said.map(|line| format!("[{number} body] {line}")));
        lines.join("\n") + "\n\n"
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':').context("want name:value")?;
    Ok((name.trim().parse()?, value.trim().parse()?))
}

/// In all, for one request or call.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const BODY_LIMIT_BYTES: usize = 1024 * 1024;
const COUNT_LIMIT: i64 = 100_000;
const HTTP_PORT: u16 = 80;
const AGENT: &str = "heddle-echo";
