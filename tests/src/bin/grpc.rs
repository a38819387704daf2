//! A service of gRPC and its client, by tonic: every kind of call, with trailers of every kind. The client
//! prints what it saw.

use std::io::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::client::Grpc as Client;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{Request as HttpRequest, Response as HttpResponse};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc as Server, NamedService, StreamingService};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

#[derive(Debug, Parser)]
enum Arguments {
    /// Serves until it is killed
    Serve {
        #[arg(long)]
        port: u16,
    },
    /// Makes every kind of call and prints what came back, as JSON
    Call {
        /// `http://host:port`
        #[arg(long)]
        target: String,
    },
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Line {
    #[prost(string, tag = "1")]
    text: String,
}

type Codec = ProstCodec<Line, Line>;
type Lines = Pin<Box<dyn Stream<Item = Result<Line, Status>> + Send>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments::Serve { port } => {
            let address: SocketAddr = ("::".parse::<std::net::IpAddr>()?, port).into();
            let server = tonic::transport::Server::builder().add_service(Loom).serve(address);
            Ok(server.await?)
        }
        Arguments::Call { target } => {
            let seen = call_all(&target).await?;
            Ok(writeln!(std::io::stdout(), "{seen}")?)
        }
    }
}

/// Answers line by line, each as soon as it comes; the method says how the call ends.
#[derive(Clone, Debug)]
struct Loom;

#[derive(Clone, Copy, Debug)]
enum End {
    Well,
    /// At once, without a message: the status is in the headers.
    AtOnce,
    /// After the answers: the status is in the trailers.
    AfterAnswers,
}

impl NamedService for Loom {
    const NAME: &'static str = "heddle.test.Loom";
}

impl Service<HttpRequest<Body>> for Loom {
    type Response = HttpResponse<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let end = match request.uri().path() {
            "/heddle.test.Loom/Weave" => End::Well,
            "/heddle.test.Loom/Refuse" => End::AtOnce,
            "/heddle.test.Loom/Tear" => End::AfterAnswers,
            _ => {
                let unimplemented = Status::unimplemented("no such method").into_http();
                return Box::pin(async move { Ok(unimplemented) });
            }
        };
        Box::pin(async move { Ok(Server::new(Codec::default()).streaming(end, request).await) })
    }
}

impl StreamingService<Line> for End {
    type Response = Line;
    type ResponseStream = Lines;
    type Future = BoxFuture<Response<Lines>, Status>;

    fn call(&mut self, request: Request<Streaming<Line>>) -> Self::Future {
        let end = *self;
        Box::pin(async move {
            let answers = request
                .into_inner()
                .map(|line| line.map(|line| Line { text: format!("answered-{}", line.text) }));
            match end {
                End::Well => Ok(Response::new(Box::pin(answers) as Lines)),
                End::AtOnce => Err(Status::not_found("no such thread: 50% \u{e9}")),
                End::AfterAnswers => {
                    let torn = tokio_stream::once(Err(Status::data_loss("the thread is torn")));
                    Ok(Response::new(Box::pin(answers.chain(torn)) as Lines))
                }
            }
        })
    }
}

async fn call_all(target: &str) -> Result<Value> {
    let channel = Channel::from_shared(target.to_owned())?.connect().await?;
    let mut client = Client::new(channel);
    Ok(json!({
        "unary": unary(&mut client, "Weave").await?,
        "client_streaming": client_streaming(&mut client).await?,
        "server_streaming": server_streaming(&mut client, "Weave").await?,
        "both_streaming": both_streaming(&mut client).await?,
        "refused": unary(&mut client, "Refuse").await?,
        "torn": server_streaming(&mut client, "Tear").await?,
        "no_method": unary(&mut client, "Knit").await?,
    }))
}

fn method(name: &str) -> Result<PathAndQuery> {
    Ok(format!("/heddle.test.Loom/{name}").parse()?)
}

fn line(text: &str) -> Line {
    Line { text: text.to_owned() }
}

fn told(status: &Status) -> Value {
    json!({ "code": i32::from(status.code()), "message": status.message() })
}

async fn unary(client: &mut Client<Channel>, name: &str) -> Result<Value> {
    client.ready().await?;
    let called = client.unary(Request::new(line("one")), method(name)?, Codec::default()).await;
    Ok(match called {
        Ok(answer) => json!({ "answer": answer.into_inner().text }),
        Err(status) => told(&status),
    })
}

/// The service answers each line; the first of the answers is what such a call takes.
async fn client_streaming(client: &mut Client<Channel>) -> Result<Value> {
    client.ready().await?;
    let lines = tokio_stream::iter([line("only")]);
    let answer =
        client.client_streaming(Request::new(lines), method("Weave")?, Codec::default()).await?;
    Ok(json!({ "answer": answer.into_inner().text }))
}

async fn server_streaming(client: &mut Client<Channel>, name: &str) -> Result<Value> {
    client.ready().await?;
    let request = Request::new(line("one"));
    let answer = client.server_streaming(request, method(name)?, Codec::default()).await?;
    let mut answers = answer.into_inner();
    let mut seen = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(line)) => seen.push(line.text),
            Ok(None) => return Ok(json!({ "answers": seen, "code": i32::from(Code::Ok) })),
            Err(status) => return Ok(json!({ "answers": seen, "ended": told(&status) })),
        }
    }
}

/// Each line is sent when the answer to the one before is there: nothing on the way may keep any back.
async fn both_streaming(client: &mut Client<Channel>) -> Result<Value> {
    client.ready().await?;
    let (sender, receiver) = mpsc::channel(1);
    sender.send(line("0")).await?;
    let request = Request::new(ReceiverStream::new(receiver));
    let answer = client.streaming(request, method("Weave")?, Codec::default()).await?;
    let mut answers = answer.into_inner();
    for number in 1..=TURNS {
        let answered = answers.message().await?.context("the answers have ended")?;
        ensure!(answered.text == format!("answered-{}", number - 1), "{answered:?}");
        sender.send(line(&number.to_string())).await?;
    }
    drop(sender);
    let last = answers.message().await?.context("the last answer")?;
    let end = answers.message().await?;
    Ok(json!({ "last": last.text, "ended": end.is_none() }))
}

const TURNS: u32 = 100;
