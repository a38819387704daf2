//! The service `opentelemetry.proto.collector.metrics.v1` on the wire: of an export is told from its bytes what it would
//! take in memory, and one that would take too much is refused before it is read. What is generated reads at once.

use std::convert::Infallible;

use heddle_telemetry::footprint::footprint_bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, SERVICE_NAME,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prometheus_client::metrics::counter::Counter;
use prost::Message;
use prost::bytes::Buf as _;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::codegen::{Body as HttpBody, BoxFuture, Context, Poll, Service, StdError};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::{ProstCodec, ProstEncoder};

use crate::telemetry::receive::Receiver;

/// The service, as a server takes it.
#[derive(Clone, Debug)]
pub struct MetricsServer(pub Receiver);

impl NamedService for MetricsServer {
    const NAME: &'static str = SERVICE_NAME;
}

impl<B> Service<http::Request<B>> for MetricsServer
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let receiver = self.0.clone();
        Box::pin(async move {
            if request.uri().path() != PATH {
                return Ok(Status::unimplemented("metrics are exported here").into_http());
            }
            let refused = receiver.metrics.telemetry_exports_refused.clone();
            let mut grpc =
                Grpc::new(WeighedCodec { refused }).max_decoding_message_size(MESSAGE_LIMIT_BYTES);
            Ok(grpc.unary(Exporting(receiver), request).await)
        })
    }
}

struct Exporting(Receiver);

impl UnaryService<ExportMetricsServiceRequest> for Exporting {
    type Response = ExportMetricsServiceResponse;
    type Future = BoxFuture<Response<Self::Response>, Status>;

    fn call(&mut self, request: Request<ExportMetricsServiceRequest>) -> Self::Future {
        let receiver = self.0.clone();
        Box::pin(async move { receiver.export(request).await })
    }
}

/// Reads exports that are not too large once they are read.
struct WeighedCodec {
    refused: Counter,
}

impl Codec for WeighedCodec {
    type Encode = ExportMetricsServiceResponse;
    type Decode = ExportMetricsServiceRequest;
    type Encoder = ProstEncoder<ExportMetricsServiceResponse>;
    type Decoder = WeighedDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<Self::Encode, Self::Decode>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        WeighedDecoder { refused: self.refused.clone() }
    }
}

struct WeighedDecoder {
    refused: Counter,
}

impl Decoder for WeighedDecoder {
    type Item = ExportMetricsServiceRequest;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        if source.chunk().len() != source.remaining() {
            return Err(Status::internal("an export is not in one piece"));
        }
        weigh(source.chunk()).inspect_err(|_| {
            self.refused.inc();
        })?;
        let read = ExportMetricsServiceRequest::decode(source);
        read.map(Some).map_err(|error| Status::invalid_argument(format!("no export: {error}")))
    }
}

/// Whether an export may be read; what is said to its sender if not.
fn weigh(message: &[u8]) -> Result<(), Status> {
    let footprint = footprint_bytes(message)
        .map_err(|error| Status::invalid_argument(format!("no export: {error}")))?;
    if footprint > FOOTPRINT_LIMIT_BYTES {
        return Err(Status::resource_exhausted(format!(
            "an export of {} bytes takes {footprint} in memory, at most {FOOTPRINT_LIMIT_BYTES} are given: send \
             fewer points at once",
            message.len()
        )));
    }
    Ok(())
}

const PATH: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// A proxy sends what it has in messages of half of this at most.
pub const MESSAGE_LIMIT_BYTES: usize = 1 << 20;
/// What an export may take once it is read. The longest of a proxy's takes 3 MiB: six bytes for each of its own at most. With
/// their messages, all that may be under way at once (see `admission.rs`) take 320 MiB, and fit beside the memory of traffic
/// (see `memory.rs`) into what the chart gives the control plane.
pub const FOOTPRINT_LIMIT_BYTES: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Index;
    use crate::metrics::Metrics;
    use crate::push::publisher::Publisher;
    use crate::telemetry::memory::Memory;
    use heddle_runtime::clock;
    use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    use opentelemetry_proto::tonic::metrics::v1::{
        Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    };
    use tonic::Code;

    fn export(points: usize) -> ExportMetricsServiceRequest {
        let data_points = vec![NumberDataPoint::default(); points];
        let data = Some(Data::Sum(Sum { data_points, ..Sum::default() }));
        let metrics = vec![Metric { data, ..Metric::default() }];
        let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
        let resource = ResourceMetrics { scope_metrics, ..ResourceMetrics::default() };
        ExportMetricsServiceRequest { resource_metrics: vec![resource] }
    }

    #[test]
    fn an_export_is_refused_for_what_it_would_take_and_not_for_its_length() {
        let most = FOOTPRINT_LIMIT_BYTES / size_of::<NumberDataPoint>();
        for (case, message, expected) in [
            ("none", export(0).encode_to_vec(), None),
            ("a few points", export(1000).encode_to_vec(), None),
            ("as many as there is room for", export(1 << most.ilog2()).encode_to_vec(), None),
            (
                "twice as many",
                export(2 << most.ilog2()).encode_to_vec(),
                Some(Code::ResourceExhausted),
            ),
            (
                "as many as a message has",
                export(500_000).encode_to_vec(),
                Some(Code::ResourceExhausted),
            ),
            (
                "half of one",
                export(5).encode_to_vec().split_at(9).0.to_vec(),
                Some(Code::InvalidArgument),
            ),
        ] {
            assert!(message.len() < MESSAGE_LIMIT_BYTES, "case: {case}: {}", message.len());
            let refused = weigh(&message).err();
            assert_eq!(refused.as_ref().map(Status::code), expected, "case: {case}: {refused:?}");
        }
    }

    #[tokio::test]
    async fn the_server_says_so_before_it_reads() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Metrics::default();
        let domain = "cluster.local".parse().unwrap();
        let (_publisher, snapshots, _raise) = Publisher::new(Index::new(domain));
        let memory = Memory::new(clock::now(), 1 << 20, metrics.clone());
        let receiver = Receiver { memory, snapshots, forwarder: None, metrics: metrics.clone() };
        let server = tonic::transport::Server::builder().add_service(MetricsServer(receiver));
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        #[expect(clippy::disallowed_methods, reason = "tests have no tasks to name")]
        tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
        let channel = channel.unwrap().connect().await.unwrap();
        let mut client = MetricsServiceClient::new(channel);
        // Nobody admits exports here, so that what is read is refused with another word.
        for (points, expected) in [(1, Code::Internal), (100_000, Code::ResourceExhausted)] {
            let answer = client.export(export(points)).await;
            assert_eq!(answer.unwrap_err().code(), expected, "case: {points}");
        }
        assert_eq!(metrics.telemetry_exports_refused.get(), 1);
    }
}
