//! The stream to the control plane: hears what to look for, and tells what was found. When it ends, so do all taps: who
//! asked for them begins anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use heddle_model::tap::Tap;
use heddle_proto::tap as wire;
use heddle_proto::tap::order::Order;
use heddle_proto::tap::tap_proxy_client::TapProxyClient;
use heddle_runtime::backoff::Backoff;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::{debug, warn};

use crate::tap::{Taps, Telling};

/// Stays attached to the control plane, over whatever connection to it is open, until the drain.
pub async fn run(
    taps: Arc<Taps>,
    mut connection: watch::Receiver<Option<Channel>>,
    drain: CancellationToken,
) {
    let attached = async {
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        loop {
            let open = connection.wait_for(Option::is_some).await.map(|open| open.clone());
            let channel = match open {
                Ok(Some(channel)) => channel,
                Ok(None) => continue,
                // Nobody opens connections any more: the process is about to end.
                Err(_) => return,
            };
            let attached_at = Instant::now();
            let ended = attach(&taps, channel).await;
            taps.clear();
            if attached_at.elapsed() > STABLE_AFTER {
                backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
            }
            match ended {
                // An older control plane: another one may be asked next.
                Some(status) if status.code() == Code::Unimplemented => {
                    if connection.changed().await.is_err() {
                        return;
                    }
                }
                Some(status) => {
                    debug!(error = status.message(), "not attached for taps");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
                None => tokio::time::sleep(backoff.next_delay()).await,
            }
        }
    };
    tokio::select! {
        () = attached => {}
        () = drain.cancelled() => {}
    }
    taps.clear();
}

/// Until the stream ends; why, if it did not end by itself.
async fn attach(taps: &Taps, channel: Channel) -> Option<Status> {
    let (told, outgoing) = mpsc::channel(TOLD_QUEUED);
    let mut client = TapProxyClient::new(channel).max_decoding_message_size(ORDER_LIMIT_BYTES);
    let opening = client.attach(ReceiverStream::new(outgoing));
    let opened = tokio::time::timeout(OPEN_TIMEOUT, opening).await;
    let opened = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(status)) => return Some(status),
        Err(_) => return Some(Status::deadline_exceeded("no answer in time")),
    };
    converse(taps, opened.into_inner(), told).await.err()
}

async fn converse(
    taps: &Taps,
    mut orders: tonic::Streaming<wire::Order>,
    told: mpsc::Sender<wire::Told>,
) -> Result<(), Status> {
    let (queue, mut found) = mpsc::channel(EXCHANGES_QUEUED);
    let mut waiting: VecDeque<wire::Told> = VecDeque::new();
    let mut batch: Vec<Telling> = Vec::new();
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            place = told.reserve(), if !waiting.is_empty() => {
                let Ok(place) = place else { return Ok(()) };
                if let Some(message) = waiting.pop_front() {
                    place.send(message);
                }
            }
            order = orders.message() => match order?.and_then(|order| order.order) {
                Some(order) => waiting.extend(obey(taps, order, &queue)),
                None => return Ok(()),
            },
            // What does not leave stays in its queue, which has an end.
            _ = found.recv_many(&mut batch, BATCH_LIMIT), if waiting.len() < WAITING_LIMIT => {
                waiting.extend(by_tap(&mut batch));
            }
            now = looks.tick() => {
                let all = taps.left_out(now).into_iter();
                waiting.extend(all.map(|(tap, left_out)| tell_of(tap, Vec::new(), left_out)));
            }
        }
    }
}

/// Does as it is told; says so, if it is to look for something.
fn obey(taps: &Taps, order: Order, queue: &mpsc::Sender<Telling>) -> Option<wire::Told> {
    match order {
        Order::End(number) => {
            taps.end(number);
            None
        }
        Order::Begin(begin) => {
            let (number, marks) = (begin.tap, begin.marks);
            let tap = match Tap::try_from(begin) {
                Ok(tap) => tap,
                Err(error) => {
                    warn!(%error, "a tap cannot be read, and is not looked for");
                    return None;
                }
            };
            if let Err(error) = taps.begin(number, (tap, marks), queue.clone()) {
                warn!(%error, "a tap is not looked for");
                return None;
            }
            Some(tell_of(number, Vec::new(), 0))
        }
    }
}

fn by_tap(batch: &mut Vec<Telling>) -> impl Iterator<Item = wire::Told> + use<> {
    let mut taps: BTreeMap<u64, Vec<wire::Exchange>> = BTreeMap::new();
    for (tap, exchange) in batch.drain(..) {
        taps.entry(tap).or_default().push(exchange);
    }
    taps.into_iter().map(|(tap, exchanges)| tell_of(tap, exchanges, 0))
}

fn tell_of(tap: u64, exchanges: Vec<wire::Exchange>, left_out: u64) -> wire::Told {
    wire::Told { tap, exchanges, left_out }
}

/// How long the control plane may take to open the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// The ceiling of the first wait; see [`Backoff`].
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// The ceiling of later waits: what people wait for at most.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// A stream that lasted this long was a good one.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// How soon it is told that something was left out, and a tap ended whose time is over.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Exchanges that are found and not told yet, of all taps together: some kilobytes each at most.
const EXCHANGES_QUEUED: usize = 256;
/// In one message, as tap.proto says.
const BATCH_LIMIT: usize = 32;
/// Messages that wait for the control plane, beside one for each tap.
const WAITING_LIMIT: usize = 4;
/// Messages inside the stream.
const TOLD_QUEUED: usize = 4;
/// A filter and names of headers.
const ORDER_LIMIT_BYTES: usize = 64 << 10;
