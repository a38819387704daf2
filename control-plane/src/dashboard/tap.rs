//! Single requests for a page, while they happen: the lines that `meshctl tap -o json` prints. Who may is decided where
//! gRPC decides it (`tap/rights.rs`), and of the browser's request only what shows who asks is passed on. Whoever stops
//! reading ends the tap: the stream is all that holds it.
//!
//! Lines of JSON, and no server-sent events: they are what meshctl prints and what curl shows, a refusal can be answered
//! with its reason, and nothing begins a tap again that nobody asked for, as a browser's `EventSource` would.

use bytes::Bytes;
use futures_util::StreamExt as _;
use heddle_model::tap::TapRequest;
use heddle_proto::tap as wire;
use heddle_proto::tap::event::Event;
use heddle_proto::tap::tap_server::Tap as _;
use heddle_report::tap::{Line, Telling};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

use crate::dashboard::guard::Refusal;
use crate::tap::service::TapService;

/// Begins one; its end is that of the answer.
pub(super) async fn tap(
    service: &TapService,
    request: &TapRequest,
    headers: &HeaderMap,
) -> Result<Response<Body>, Refusal> {
    let mut shown = HeaderMap::new();
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        shown.insert(header::AUTHORIZATION, value.clone());
    }
    let mut asked = Request::new(wire::WatchRequest::from(request));
    *asked.metadata_mut() = MetadataMap::from_headers(shown);
    let events = service.watch(asked).await.map_err(|status| refused(&status))?.into_inner();
    let began = Instant::now();
    let mut telling = Telling::new(request.tap.shown.headers);
    let frames = events.map(move |event| {
        let lines = lines(&mut telling, event, began);
        text(&lines).map(|text| Frame::data(Bytes::from(text)))
    });
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(LINES_OF_JSON));
    Ok(response)
}

fn lines(telling: &mut Telling, event: Result<wire::Event, Status>, began: Instant) -> Vec<Line> {
    match event {
        Ok(wire::Event { event: Some(Event::Exchange(told)) }) => vec![telling.exchange(&told)],
        Ok(wire::Event { event: Some(Event::Standing(standing)) }) => telling.standing(standing),
        Ok(wire::Event { event: Some(Event::Ended(ended)) }) => {
            vec![telling.end(&ended.reason, began.elapsed())]
        }
        Ok(wire::Event { event: None }) => Vec::new(),
        Err(status) => vec![telling.end(status.message(), began.elapsed())],
    }
}

/// Where there is no news, an empty line says that the tap goes on.
fn text(lines: &[Line]) -> Result<String, serde_json::Error> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(line)?);
        text.push('\n');
    }
    Ok(if text.is_empty() { "\n".to_owned() } else { text })
}

fn refused(status: &Status) -> Refusal {
    let kind = KINDS.iter().find(|(code, _)| *code == status.code());
    let kind = kind.map_or(Refusal::Unavailable as Kind, |(_, kind)| *kind);
    kind(status.message().to_owned())
}

type Kind = fn(String) -> Refusal;

/// What a refusal of gRPC is over HTTP; any other is for now only.
const KINDS: [(Code, Kind); 5] = [
    (Code::Unauthenticated, Refusal::Unauthenticated),
    (Code::PermissionDenied, Refusal::Forbidden),
    (Code::NotFound, Refusal::Missing),
    (Code::ResourceExhausted, Refusal::Full),
    (Code::InvalidArgument, Refusal::Invalid),
];
/// By its customary name; none is registered.
const LINES_OF_JSON: &str = "application/x-ndjson";

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use heddle_model::tap::{Filter, Limits, Shown, Subject, Tap};
    use heddle_runtime::tasks::Tasks;
    use http::StatusCode;
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};
    use tokio::sync::watch;

    use crate::index::Index;
    use crate::metrics::Metrics;
    use crate::snapshot::{Contents, Snapshot};
    use crate::tap::registry::Taps;
    use crate::tap::rights::{Reviews, Rights};
    use crate::tap::service::Surroundings;
    use crate::test_client;

    use super::*;

    fn service(rights: Rights) -> TapService {
        let mut index = Index::new("cluster.local".parse().unwrap());
        let contents = Arc::new(index.contents(&Contents::default()));
        let snapshot = Snapshot::first(Default::default(), contents);
        let (_, snapshots) = watch::channel(Some(snapshot));
        let taps = Taps::new(Metrics::default());
        let surroundings = Surroundings { taps, snapshots, tasks: Tasks::new() };
        TapService { surroundings, rights, replicas: None }
    }

    fn request(subject: Subject) -> TapRequest {
        let limits = Limits { per_second: 1, lifetime: Duration::from_secs(60) };
        let (filter, shown) = (Filter::default(), Shown::default());
        TapRequest { subject, tap: Tap { filter, limits, shown, follow: None } }
    }

    async fn ends(service: &TapService) {
        while !service.surroundings.taps.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tap_tells_lines_of_json_and_ends_when_nobody_reads() {
        let service = service(Rights::Owner);
        let answered = tap(&service, &request(Subject::All), &HeaderMap::new()).await.unwrap();
        assert_eq!(answered.headers()["content-type"], LINES_OF_JSON);
        assert!(!service.surroundings.taps.is_empty());
        let mut body = answered.into_body();
        // How it is, which is no news while nobody looks: the line is empty.
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, "\n");
        drop(body);
        tokio::time::timeout(Duration::from_secs(5), ends(&service)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_line_says_why_it_ended() {
        let service = service(Rights::Owner);
        let answered = tap(&service, &request(Subject::All), &HeaderMap::new()).await.unwrap();
        let text = answered.into_body().collect().await.unwrap().to_bytes();
        let text = std::str::from_utf8(&text).unwrap();
        let last: Value = serde_json::from_str(text.trim_end().lines().last().unwrap()).unwrap();
        assert_eq!((&last["type"], &last["seconds"]), (&json!("end"), &json!(60.0)));
        assert_eq!(last["reason"], "its time of 1m is over");
    }

    #[tokio::test]
    async fn whoever_may_not_tap_is_refused_as_by_grpc() {
        let reviewed = |allowed: bool| {
            let client = test_client::answering(move |request| {
                let status = if request.uri().path().ends_with("/tokenreviews") {
                    json!({"authenticated": true, "audiences": ["heddle-tap"], "user": {"username": "a"}})
                } else {
                    json!({"allowed": allowed})
                };
                test_client::json(201, json!({"spec": {}, "status": status}))
            });
            Rights::Reviewed(Arc::new(Reviews::new(client)))
        };
        let nobody = Subject::Namespace("nobody".into());
        for (case, rights, shown, subject, expected) in [
            ("an address", Rights::Nobody, Some("Bearer t"), Subject::All, Some(403)),
            ("no token", reviewed(true), None, Subject::All, Some(401)),
            ("a name and a password", reviewed(true), Some("Basic t"), Subject::All, Some(401)),
            ("no right", reviewed(false), Some("Bearer t"), Subject::All, Some(403)),
            ("no such workload", reviewed(true), Some("Bearer t"), nobody, Some(404)),
            ("the right", reviewed(true), Some("Bearer t"), Subject::All, None),
        ] {
            let service = service(rights);
            let mut headers = HeaderMap::new();
            if let Some(shown) = shown {
                headers.insert(header::AUTHORIZATION, HeaderValue::from_static(shown));
            }
            let answered = tap(&service, &request(subject), &headers).await;
            let status = answered.as_ref().err().map(|refusal| refusal.status().as_u16());
            assert_eq!(status, expected, "case: {case}");
            assert_eq!(service.surroundings.taps.is_empty(), expected.is_some(), "case: {case}");
        }
    }

    #[tokio::test]
    async fn no_more_taps_run_than_may() {
        let service = service(Rights::Owner);
        let mut running = Vec::new();
        let refusal = loop {
            assert!(running.len() < 100, "there is no bound");
            match tap(&service, &request(Subject::All), &HeaderMap::new()).await {
                Ok(answered) => running.push(answered),
                Err(refusal) => break refusal,
            }
        };
        assert_eq!(refusal.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(refusal.to_string().contains("end one"), "{refusal}");
    }
}
