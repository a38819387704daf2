//! One method of gRPC that answers with a text, and its call.

use std::future::{Ready, ready};

use hyper::{Request as HttpRequest, Response as HttpResponse};
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// What is said, either way.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Words {
    /// Lines.
    #[prost(string, tag = "1")]
    pub(super) message: String,
}

/// How messages are written.
pub(super) type Codec = ProstCodec<Words, Words>;

/// The method, called as it is in the image that this stands in for, so that a route may name it.
pub(super) const METHOD: PathAndQuery = PathAndQuery::from_static("/proto.EchoTestService/Echo");

/// The media type of gRPC, of which there are more special ones (`application/grpc+proto`).
pub(super) const MEDIA_TYPE: &str = "application/grpc";

/// Answers a call with these lines.
pub(super) async fn answer<B>(request: HttpRequest<B>, lines: String) -> HttpResponse<Body>
where
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<tonic::codegen::StdError> + Send,
{
    let path = request.uri().path();
    if path != METHOD.path() {
        let message = format!("{path} is not served here (only {METHOD})");
        return Status::unimplemented(message).into_http();
    }
    Grpc::new(Codec::default()).unary(Answer(lines), request).await
}

struct Answer(String);

impl UnaryService<Words> for Answer {
    type Response = Words;
    type Future = Ready<Result<Response<Words>, Status>>;

    fn call(&mut self, _words: Request<Words>) -> Self::Future {
        // A call that is answered at all is answered with 200; the suite wants to read that.
        let message = format!("StatusCode=200\n{}", self.0);
        ready(Ok(Response::new(Words { message })))
    }
}
