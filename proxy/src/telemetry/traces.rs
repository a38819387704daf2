//! Spans of requests: which requests are traced, what they take along, and where what is known of them
//! goes in the end. What headers say is read in http/trace.rs, what a span says is in spans.rs.
//!
//! The rule for who may have a request recorded: this proxy's own workload and callers with a certificate
//! of the mesh, always; callers without one, so many times in a second. What is above that goes on
//! unrecorded, here and at everybody who follows the flag.

use std::num::{NonZeroU64, NonZeroU128};
use std::sync::Arc;

use heddle_runtime::tasks::Tasks;
use heddle_telemetry::batch::record::Teller;
use heddle_telemetry::batch::{Queue, Tell, queue};
use heddle_telemetry::collector::{Collector, CollectorError};
use heddle_telemetry::settings::Signal;
use heddle_telemetry::settings::sampler::Sampler;
use http::Request;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::http::body::Body;
use crate::http::call_record::{CallRecord, TraceState};
use crate::http::trace::carry::{self, Fresh};
use crate::http::trace::w3c;
use crate::http::witness::{Asking, Interest, Witness};
use crate::metrics::Direction;
use crate::telemetry::metrics::ExportMetrics;
use crate::telemetry::resource::Resource;
use crate::telemetry::{ExportSettings, spans};

/// Traces requests.
#[derive(Debug)]
pub struct Traces {
    sampler: Sampler,
    queue: Queue<Span>,
    outsiders: Mutex<Allowance>,
    exports: ExportMetrics,
}

/// Begins to trace, if there is a collector for it. Fails if there can be no way to the collector.
pub fn start(
    settings: &ExportSettings,
    resource: &Resource,
    exports: &ExportMetrics,
    tasks: &Tasks,
) -> Result<Option<Arc<dyn Witness>>, CollectorError> {
    let telemetry = &settings.telemetry;
    let Some(collector) = telemetry.traces.clone().filter(|_| telemetry.is_enabled) else {
        return Ok(None);
    };
    let collector = Collector::new(collector, settings.mark)?;
    let counted = exports.clone();
    let tell: Tell = Arc::new(move |told| counted.count_records(Signal::Traces, told));
    let (queue, batches) = queue(telemetry.spans, tell);
    let resource = resource.clone();
    let teller = move || Teller { resource: resource.message(), scope: spans::scope() };
    let drain = tasks.drain().clone();
    tasks.spawn("telemetry.traces", batches.run(collector, teller, drain));
    Ok(Some(Arc::new(Traces::new(telemetry.sampler, queue, exports.clone()))))
}

impl Traces {
    fn new(sampler: Sampler, queue: Queue<Span>, exports: ExportMetrics) -> Self {
        let outsiders = Mutex::new(Allowance { left: OUTSIDERS_BURST, at: Instant::now() });
        Self { sampler, queue, outsiders, exports }
    }

    /// Whether a caller who is nobody known may have a request recorded.
    fn allows(&self, asked: &Asking<'_>) -> bool {
        let is_known = match asked.direction {
            Direction::Outbound => true,
            Direction::Inbound => !asked.caller.is_empty(),
        };
        let is_allowed = is_known || self.outsiders.lock().take(Instant::now());
        if !is_allowed {
            self.exports.count_dropped(Signal::Traces, RATE_LIMIT, 1);
        }
        is_allowed
    }
}

impl Witness for Traces {
    fn wants(&self, request: &mut Request<Body>, asked: &Asking<'_>) -> Interest {
        let incoming = carry::read(request.headers());
        let carried = carry::decide(&incoming, &self.sampler, fresh, || self.allows(asked));
        let Some(carried) = carried else { return Interest::Nothing };
        carried.write(request.headers_mut(), &incoming);
        request.extensions_mut().insert(carried.ids());
        if !carried.is_sampled {
            return Interest::Nothing;
        }
        // As it goes on: what is of no trace, or broken, went when the trace was written.
        if let Some(state) = w3c::state(request.headers()) {
            request.extensions_mut().insert(TraceState(state));
        }
        Interest::Call
    }

    fn tell(&self, record: &CallRecord<'_>) {
        if let Some(ids) = record.head.trace.filter(|ids| ids.is_sampled) {
            self.queue.offer(|| spans::span(record, &ids));
        }
    }
}

/// How often outsiders may still have a request recorded: a bucket that fills itself.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * OUTSIDERS_PER_SECOND).min(OUTSIDERS_BURST);
        self.at = now;
        let is_there = self.left >= 1.0;
        if is_there {
            self.left -= 1.0;
        }
        is_there
    }
}

fn fresh() -> Fresh {
    // Zero means none; it comes once in 2^64 times.
    Fresh {
        trace: NonZeroU128::new(rand::random()).unwrap_or(NonZeroU128::MIN),
        span: NonZeroU64::new(rand::random()).unwrap_or(NonZeroU64::MIN),
    }
}

/// How many requests in a second callers without a certificate may have recorded, at each proxy: enough to
/// look at an ingress with, and little beside what a proxy serves.
const OUTSIDERS_PER_SECOND: f64 = 50.0;
/// How many at once.
const OUTSIDERS_BURST: f64 = 100.0;
/// Why a span is not there, in metrics.
const RATE_LIMIT: &str = "rate_limit";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use heddle_telemetry::settings::TelemetrySettings;
    use http::HeaderValue;

    use super::*;
    use crate::http::call_record::TraceIds;

    fn traces(ratio: f64) -> (Traces, ExportMetrics) {
        let settings = TelemetrySettings::read(&|_| None).unwrap();
        let (queue, _batches) = queue(settings.spans, Arc::new(|_| {}));
        let exports = ExportMetrics::default();
        let sampler = Sampler { follows_parent: true, ratio };
        (Traces::new(sampler, queue, exports.clone()), exports)
    }

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn request(parent: Option<&'static str>) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        if let Some(parent) = parent {
            request.headers_mut().insert("traceparent", HeaderValue::from_static(parent));
        }
        request
    }

    const OUTSIDER: Asking<'_> = Asking { direction: Direction::Inbound, service: "", caller: "" };

    #[tokio::test(start_paused = true)]
    async fn outsiders_have_so_many_requests_recorded_and_everybody_else_all() {
        let (traces, exports) = traces(0.0);
        let recorded = |asked: &Asking<'_>, count: usize| {
            let wanted = (0..count).filter(|_| {
                let mut request = request(Some(SAMPLED));
                let interest = traces.wants(&mut request, asked);
                let is_sampled = request.headers()["traceparent"].as_bytes().ends_with(b"-01");
                assert_eq!(is_sampled, interest == Interest::Call, "others follow");
                assert_ne!(request.headers()["traceparent"], SAMPLED, "it has a span of its own");
                is_sampled
            });
            wanted.count()
        };
        assert_eq!(recorded(&OUTSIDER, 300), 100);
        let caller = Asking { caller: "spiffe://cluster.local/ns/a/sa/b", ..OUTSIDER };
        assert_eq!(recorded(&caller, 300), 300);
        let own = Asking { direction: Direction::Outbound, ..OUTSIDER };
        assert_eq!(recorded(&own, 300), 300);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(recorded(&OUTSIDER, 300), 50);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(recorded(&OUTSIDER, 300), 100);
        let dropped = exports.dropped(Signal::Traces, RATE_LIMIT);
        assert_eq!(dropped, 200 + 250 + 200);
    }

    #[tokio::test]
    async fn without_a_trace_and_a_ratio_a_request_is_left_as_it_is() {
        let (traces, _) = traces(0.0);
        let mut request = request(None);
        assert_eq!(traces.wants(&mut request, &OUTSIDER), Interest::Nothing);
        assert!(request.headers().is_empty());
        assert!(request.extensions().get::<TraceIds>().is_none());
    }

    #[tokio::test]
    async fn what_others_keep_beside_a_trace_is_noted_of_what_is_recorded_and_goes_on_as_it_came() {
        let unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        for (case, ratio, parent, states, noted) in [
            ("recorded", 0.0, Some(SAMPLED), &["a=1", "b=2 , ,c=3"][..], Some("a=1,b=2,c=3")),
            ("none", 0.0, Some(SAMPLED), &[], None),
            ("broken", 0.0, Some(SAMPLED), &["a"], None),
            ("not sampled", 0.0, Some(unsampled), &["a=1"], None),
            ("of no trace", 1.0, None, &["a=1"], None),
        ] {
            let (traces, _) = traces(ratio);
            let mut request = request(parent);
            for state in states {
                request.headers_mut().append("tracestate", HeaderValue::from_static(state));
            }
            traces.wants(&mut request, &OUTSIDER);
            let goes_on = request.headers().get_all("tracestate").iter().collect::<Vec<_>>();
            let goes_on = goes_on.iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
            let expected = match case {
                "broken" | "of no trace" => &[],
                _ => states,
            };
            assert_eq!(goes_on, expected, "case: {case}");
            let state = request.extensions().get::<TraceState>();
            assert_eq!(state.map(|TraceState(text)| &**text), noted, "case: {case}");
        }
    }

    #[tokio::test]
    async fn a_trace_that_begins_here_is_told_of_with_its_numbers() {
        let (traces, _) = traces(1.0);
        let mut request = request(None);
        assert_eq!(traces.wants(&mut request, &OUTSIDER), Interest::Call);
        let ids = *request.extensions().get::<TraceIds>().unwrap();
        assert_eq!((ids.parent, ids.is_sampled), (None, true));
        let trace = u128::from_be_bytes(ids.trace);
        let span = u64::from_be_bytes(ids.span);
        let expected = format!("00-{trace:032x}-{span:016x}-03");
        assert_eq!(request.headers()["traceparent"], expected.as_str());
    }
}
