//! Sends a request of the lane to an endpoint of its backend, and to another if the first cannot be reached: by the
//! same rules as http/send.rs, which has them.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use heddle_model::endpoint::ExpectedPeer;
use http::Method;
use tokio::time::Instant;

use crate::balance::balancer::{Balancer, NotAdmitted};
use crate::balance::callers::CallerPlace;
use crate::balance::endpoint::{BalancedEndpoint, InFlight};
use crate::balance::set::{PickContext, Purpose};
use crate::connect::{ConnectError, Dialer};
use crate::http::attempt::{Connecting, Lost, Unanswered, idle_limit, is_idempotent};
use crate::http::call_record::Notes;
use crate::http::client;
use crate::http::headers::{Caller, caller_line};
use crate::http::lane::answer::{self, AnswerHead, NoHead};
use crate::http::lane::connection::{Connection, WriteError};
use crate::http::lane::framing::Framing;
use crate::http::respond::Cause;
use crate::http::send::{ATTEMPT_LIMIT, Failure, History, failure, not_admitted};
use crate::metrics::Protection;

/// A request, and where to.
pub(super) struct Sending<'a> {
    pub(super) dialer: &'a Dialer,
    pub(super) backend: &'a Arc<Balancer>,
    pub(super) method: &'a Method,
    /// All of it.
    pub(super) octets: &'a [u8],
    pub(super) body_length: usize,
    /// What the caller has of its share, until the request has ended.
    pub(super) place: Option<CallerPlace>,
    /// Where it is noted how often it is sent, if anybody wants to know.
    pub(super) notes: Option<&'a Notes>,
}

/// The head of an answer is there; what is to be told the client of it is in the lane's `reply`.
pub(super) struct Answered {
    pub(super) connection: Connection,
    pub(super) in_flight: InFlight,
    pub(super) status: u16,
    pub(super) framing: Framing,
    pub(super) is_reusable: bool,
    pub(super) has_date: bool,
    /// The other side has refused a part of the request: the end of the connection is none.
    pub(super) is_deaf: bool,
    /// How much of the request is still to be sent, at its end; `None`: nothing.
    pub(super) unsent: Option<usize>,
    /// When its head was there.
    pub(super) answered_at: Instant,
}

/// An answer's head, and how far the request had come.
struct Heard {
    head: AnswerHead,
    is_deaf: bool,
    unsent: Option<usize>,
}

/// The request is in the lane, so that nothing stands for it.
type Outcome<T> = Result<T, Box<Unanswered<()>>>;

/// The answer of an endpoint, or why there is none. Cancel safe: the request is lost, and the connection closed.
pub(super) async fn send(
    sending: Sending<'_>,
    answer: &mut BytesMut,
    reply: &mut Vec<u8>,
) -> Result<Answered, Box<Failure>> {
    let Sending { dialer, backend, .. } = sending;
    let mut history = History::new(Vec::new());
    for _attempt in 0..ATTEMPT_LIMIT {
        let context = PickContext {
            tried: &history.tried,
            metrics: Some(&dialer.metrics),
            ..PickContext::first(Purpose::Request)
        };
        let in_flight = match backend.admit(&context, dialer.settings.requests_per_endpoint).await {
            Ok(in_flight) => in_flight.with_place(sending.place.clone()),
            Err(NotAdmitted::NoOther) => break,
            Err(refused) => {
                let error = not_admitted(refused, backend);
                return Err(Box::new(failure(error, backend, None)));
            }
        };
        if let Some(notes) = sending.notes {
            notes.count_attempt();
        }
        let endpoint = in_flight.endpoint();
        match attempt(&sending, &history, endpoint, (answer, reply)).await {
            Ok((connection, Heard { head, is_deaf, unsent }, answered_at)) => {
                if head.is_of_dead_application {
                    endpoint.connection_failed(&dialer.metrics);
                } else if let Some(sign) = head.sign {
                    endpoint.observe(sign, &dialer.metrics);
                }
                let AnswerHead { status, framing, is_reusable, has_date, .. } = head;
                let is_reusable = is_reusable && !is_deaf && unsent.is_none();
                return Ok(Answered {
                    connection,
                    in_flight,
                    status,
                    framing,
                    is_reusable,
                    has_date,
                    is_deaf,
                    unsent,
                    answered_at,
                });
            }
            Err(unanswered) => {
                unanswered.tell_of(endpoint, &dialer.metrics);
                history.learn(*unanswered, backend, Arc::clone(endpoint))?;
            }
        }
    }
    Err(Box::new(history.into_failure(None, backend)))
}

async fn attempt(
    sending: &Sending<'_>,
    history: &History,
    endpoint: &Arc<BalancedEndpoint>,
    (answer, reply): (&mut BytesMut, &mut Vec<u8>),
) -> Outcome<(Connection, Heard, Instant)> {
    let Sending { dialer, backend, method, octets, .. } = *sending;
    answer.clear();
    reply.clear();
    let is_repeatable = sending.body_length == 0 && is_idempotent(method);
    let now = Instant::now();
    let used = match history.closed_at {
        Some(_) => None,
        None => endpoint.pool.take(now, idle_limit(dialer, endpoint, is_repeatable)),
    };
    let (connected, sent_at) = match used {
        Some(connection) => (Ok((connection, Carried::Used)), now),
        None => {
            let connecting = Box::pin(connect(dialer, backend, endpoint, history.closed_at));
            (connecting.await, Instant::now())
        }
    };
    let (mut connection, carried) =
        connected.map_err(|error| Unanswered::NotConnected { request: (), error })?;
    let own = for_own_application(dialer, endpoint, (octets, sending.body_length));
    let octets = own.as_deref().unwrap_or(octets);
    let asked = Asked {
        octets,
        is_head: *method == Method::HEAD,
        mesh: (dialer.protection(&endpoint.endpoint) == Protection::Mutual)
            .then_some(endpoint.endpoint.pod.as_str()),
    };
    let answered = exchange(&mut connection, asked, answer, reply).await;
    let tell_answered = || {
        let now = Instant::now();
        if let Some(notes) = sending.notes {
            notes.answered_in(now.saturating_duration_since(sent_at));
        }
        endpoint.observe_latency_until(sent_at, now);
        now
    };
    match answered {
        Ok(heard) => Ok((connection, heard, tell_answered())),
        Err(NoAnswer::Unsent(error)) => Err(Unanswered::NotSent { request: (), error }.into()),
        Err(NoAnswer::Lost(error)) => {
            // One that broke off alone tells as much as a connection that was just opened.
            let is_closed = connection.is_closed();
            let is_new = match carried {
                Carried::New => true,
                Carried::Fresh => !is_closed,
                Carried::Used => false,
            };
            let again = (!is_new && history.may_repeat && is_repeatable).then_some(());
            let is_news = again.is_none() && connection.is_news();
            Err(Unanswered::Lost(Lost { error, again, is_closed, is_new, is_news }).into())
        }
        Err(NoAnswer::Ambiguous(fault)) => {
            tell_answered();
            Err(Unanswered::Ambiguous { fault }.into())
        }
    }
}

/// A workload that calls itself does so past its own inbound side, which would have told it who asks.
fn for_own_application(
    dialer: &Dialer,
    endpoint: &BalancedEndpoint,
    (octets, body_length): (&[u8], usize),
) -> Option<Vec<u8>> {
    let ExpectedPeer::Mesh { identity, pod_uid } = &endpoint.endpoint.peer else { return None };
    if *pod_uid != dialer.own {
        return None;
    }
    let caller = Caller::Mutual { caller: identity.clone(), own: identity.clone() };
    let (head, body) = octets.split_at_checked(octets.len().checked_sub(body_length)?)?;
    let head = head.strip_suffix(b"\r\n")?;
    Some([head, caller_line(&caller).as_bytes(), b"\r\n", body].concat())
}

/// What a connection has carried before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    /// Nothing: it was just opened.
    New,
    /// Nothing itself, but others that share what carries it.
    Fresh,
    /// Other requests.
    Used,
}

/// A new connection; or, if no other may be opened, one that comes back in time.
async fn connect(
    dialer: &Dialer,
    backend: &Balancer,
    endpoint: &Arc<BalancedEndpoint>,
    opened_since: Option<Instant>,
) -> Result<(Connection, Carried), ConnectError> {
    let handed_over = async { endpoint.pool.wait().await.ok() };
    let slot = tokio::select! {
        biased;
        // Usually there is one, and nothing is waited for.
        slot = backend.connection(&dialer.metrics) => slot,
        Some(connection) = handed_over => return Ok((connection, Carried::Used)),
    };
    let slot = slot.map_err(|_refused| ConnectError::TooMany)?;
    let connecting = Connecting::begin(endpoint);
    let opened = client::for_lane(dialer, endpoint, slot, opened_since).await;
    connecting.end();
    opened.map(|(connection, is_new)| {
        (connection, if is_new { Carried::New } else { Carried::Fresh })
    })
}

/// What is sent, and what is to be known of it to read the answer.
struct Asked<'a> {
    octets: &'a [u8],
    is_head: bool,
    /// The pod whose proxy answers, if one does.
    mesh: Option<&'a str>,
}

enum NoAnswer {
    /// Nothing was sent.
    Unsent(Cause),
    /// It may have been processed.
    Lost(Cause),
    Ambiguous(crate::http::gate::response::Fault),
}

async fn exchange(
    connection: &mut Connection,
    asked: Asked<'_>,
    answer: &mut BytesMut,
    reply: &mut Vec<u8>,
) -> Result<Heard, NoAnswer> {
    let mut rest = asked.octets;
    let mut looked = 0;
    let is_deaf = loop {
        match connection.write(asked.octets.len(), &mut rest, answer).await {
            Ok(true) => break false,
            Ok(false) => {
                if let Some(head) = final_head(&asked, (answer, &mut looked), reply)? {
                    return Ok(Heard { head, is_deaf: false, unsent: Some(rest.len()) });
                }
            }
            Err(WriteError::Unsent(error)) => return Err(NoAnswer::Unsent(error.into())),
            // It may have answered before it has heard all.
            Err(WriteError::Sent) => break true,
        }
    };
    loop {
        if let Some(head) = final_head(&asked, (answer, &mut looked), reply)? {
            return Ok(Heard { head, is_deaf, unsent: None });
        }
        match connection.read(answer).await {
            Ok(0) => return Err(NoAnswer::Lost("the connection ended".into())),
            Ok(_length) => {}
            Err(error) => return Err(NoAnswer::Lost(error.into())),
        }
    }
}

/// The head of the answer, if it is there. What is said on the way to it was not asked for.
fn final_head(
    asked: &Asked<'_>,
    (answer, looked): (&mut BytesMut, &mut usize),
    reply: &mut Vec<u8>,
) -> Result<Option<AnswerHead>, NoAnswer> {
    while !answer.is_empty() && answer::may_be_whole(answer, *looked) {
        match answer::read(answer, asked.is_head, asked.mesh, reply) {
            Ok(Some(head)) => {
                answer.advance(head.length);
                *looked = 0;
                if head.status >= 200 {
                    return Ok(Some(head));
                }
            }
            Ok(None) => {
                *looked = answer.len();
                break;
            }
            Err(NoHead::Unreadable(error)) => return Err(NoAnswer::Lost(error)),
            Err(NoHead::Ambiguous(fault)) => return Err(NoAnswer::Ambiguous(fault)),
        }
    }
    Ok(None)
}
