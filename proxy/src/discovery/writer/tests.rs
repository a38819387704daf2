//! What readers see and what the control plane is told, message by message.

use heddle_proto::discovery::destination::Destination as Kind;
use heddle_proto::discovery::update::Resource;

use super::*;
use crate::discovery::store::{self, Store};

struct Bench {
    writer: Writer,
    store: Store,
    asks: tokio::sync::mpsc::Receiver<Ask>,
    readiness: Readiness,
}

fn bench() -> Bench {
    let (store, store_writer, asks) = store::channel();
    let readiness = Readiness::new(&[READY_CONDITION]);
    let own = "uid-1".parse().unwrap();
    let metrics = DiscoveryMetrics::default();
    let mut writer = Writer::new(own, store_writer, metrics, readiness.clone());
    writer.opening();
    writer.opened();
    Bench { writer, store, asks, readiness }
}

fn address(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::from(([10, 43, high, low], 80))
}

fn update(address: SocketAddr, version: u64, kind: Option<Kind>) -> wire::ControlMessage {
    let destination = wire::Destination { destination: kind };
    let update = wire::Update {
        key: Some(wire::ResourceKey::from(&ResourceKey::Destination(address))),
        version,
        digest: version,
        resource: Some(Resource::Destination(destination)),
    };
    wire::ControlMessage { message: Some(wire::control_message::Message::Update(update)) }
}

fn pass_through() -> Option<Kind> {
    Some(Kind::PassThrough(wire::PassThrough {}))
}

fn sent(writer: &mut Writer) -> Vec<String> {
    let mut sent = Vec::new();
    while let Some(message) = writer.take_outgoing() {
        let key = |key: Option<wire::ResourceKey>| ResourceKey::try_from(key.unwrap()).unwrap();
        sent.push(match message.message.unwrap() {
            Message::Hello(message) => format!("hello {}", message.highest_known_version),
            Message::Subscribe(message) => {
                format!("subscribe {} {}", key(message.key), message.known_version)
            }
            Message::Unsubscribe(message) => format!("unsubscribe {}", key(message.key)),
            Message::Ack(message) => format!("ack {} {}", key(message.key), message.version),
            Message::Nack(message) => format!("nack {} {}", key(message.key), message.version),
        });
    }
    sent
}

impl Bench {
    /// A reader asks; the answer is awaited by the returned task.
    fn ask(&mut self, address: SocketAddr) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        self.writer.ask(Ask { address, answer }, Instant::now());
        answered
    }
}

type Answer = Result<watch::Receiver<Resolved>, NotDiscovered>;

#[tokio::test(start_paused = true)]
async fn asks_for_one_address_share_one_subscription() {
    let mut bench = bench();
    sent(&mut bench.writer);
    let first = bench.ask(address(1));
    let second = bench.ask(address(1));
    assert_eq!(sent(&mut bench.writer), ["subscribe destination 10.43.0.1:80 0"]);
    bench.writer.receive(update(address(1), 7, pass_through()));
    assert_eq!(sent(&mut bench.writer), ["ack destination 10.43.0.1:80 7"]);
    for answered in [first, second] {
        assert!(matches!(*answered.await.unwrap().unwrap().borrow(), Resolved::PassThrough));
    }
    // Known now: no ask reaches the writer.
    bench.store.destination(address(1)).await.unwrap();
    assert!(bench.asks.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_change_reaches_a_receiver_that_is_held_and_a_refused_one_does_not() {
    let mut bench = bench();
    let answered = bench.ask(address(1));
    bench.writer.receive(update(address(1), 7, pass_through()));
    let receiver = answered.await.unwrap().unwrap();
    sent(&mut bench.writer);

    bench.writer.receive(update(address(1), 8, None));
    assert_eq!(sent(&mut bench.writer), ["nack destination 10.43.0.1:80 8"]);
    assert!(matches!(*receiver.borrow(), Resolved::PassThrough), "the old one stays");

    let refused = Kind::Refused(wire::Refused { reason: "no port 81".into() });
    bench.writer.receive(update(address(1), 9, Some(refused)));
    assert!(matches!(&*receiver.borrow(), Resolved::Refused { reason } if reason == "no port 81"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_update_with_nothing_good_before_refuses_connections_with_the_reason() {
    let mut bench = bench();
    let answered = bench.ask(address(1));
    bench.writer.receive(update(address(1), 8, None));
    let receiver = answered.await.unwrap().unwrap();
    assert!(matches!(&*receiver.borrow(), Resolved::Refused { reason } if !reason.is_empty()));
    // What stands in for it has the same version, when nothing else changed.
    bench.writer.receive(update(address(1), 8, pass_through()));
    assert!(matches!(*receiver.borrow(), Resolved::PassThrough));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_limit_for_an_answer() {
    let bench = bench();
    let begin = Instant::now();
    let outcome = bench.store.destination(address(1)).await;
    assert!(matches!(outcome, Err(NotDiscovered::Timeout)));
    assert_eq!(begin.elapsed(), store::ANSWER_TIMEOUT);
    drop(bench.asks);
    let outcome = bench.store.destination(address(1)).await;
    assert!(matches!(outcome, Err(NotDiscovered::Ended)));
}

#[tokio::test(start_paused = true)]
async fn what_is_idle_is_given_up_only_while_connected_and_never_while_somebody_reads_it() {
    let mut bench = bench();
    let held = bench.ask(address(1));
    let idle = bench.ask(address(2));
    for number in [1, 2] {
        bench.writer.receive(update(address(number), 7, pass_through()));
    }
    let held = held.await.unwrap().unwrap();
    drop(idle.await.unwrap());
    bench.writer.sweep(Instant::now());
    sent(&mut bench.writer);

    bench.writer.closed();
    tokio::time::advance(IDLE_LIMIT + SWEEP_INTERVAL).await;
    bench.writer.sweep(Instant::now());
    bench.writer.opening();
    let first = sent(&mut bench.writer);
    assert_eq!(
        first,
        [
            "hello 7",
            "subscribe workload uid-1 0",
            "subscribe destination 10.43.0.1:80 7",
            "subscribe destination 10.43.0.2:80 7",
        ]
    );
    bench.writer.opened();
    bench.writer.sweep(Instant::now());
    assert_eq!(sent(&mut bench.writer), ["unsubscribe destination 10.43.0.2:80"]);
    drop(held);
    tokio::time::advance(IDLE_LIMIT + SWEEP_INTERVAL).await;
    bench.writer.sweep(Instant::now());
    assert_eq!(sent(&mut bench.writer), ["unsubscribe destination 10.43.0.1:80"]);
}

#[tokio::test(start_paused = true)]
async fn when_there_is_no_room_the_longest_idle_makes_some_and_those_in_use_do_not() {
    let mut bench = bench();
    bench.writer.subscriptions = Subscriptions::new(2);
    let mut receivers = Vec::new();
    for number in [1, 2] {
        let answered = bench.ask(address(number));
        bench.writer.receive(update(address(number), 7, pass_through()));
        receivers.push(answered.await.unwrap().unwrap());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    bench.writer.sweep(Instant::now());
    tokio::time::advance(Duration::from_secs(1)).await;
    let full = bench.ask(address(3)).await.unwrap();
    assert!(matches!(full, Err(NotDiscovered::Full)));
    sent(&mut bench.writer);
    receivers.remove(0);
    // The look that finds it unused is one interval after the look that found it used.
    tokio::time::advance(Duration::from_secs(1)).await;
    drop(bench.ask(address(4)));
    assert_eq!(
        sent(&mut bench.writer),
        ["unsubscribe destination 10.43.0.1:80", "subscribe destination 10.43.0.4:80 0"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_own_workload_makes_it_ready_and_an_older_one_is_acknowledged_as_what_is_held() {
    let mut bench = bench();
    sent(&mut bench.writer);
    let workload = |version: u64, name: &str| {
        let workload = wire::Workload {
            namespace: "default".into(),
            name: name.into(),
            pod_uid: "uid-1".into(),
            inbound_mode: wire::InboundMode::Strict.into(),
            ..wire::Workload::default()
        };
        let update = wire::Update {
            key: Some(wire::ResourceKey::from(&ResourceKey::Workload("uid-1".parse().unwrap()))),
            version,
            digest: version,
            resource: Some(Resource::Workload(workload)),
        };
        wire::ControlMessage { message: Some(wire::control_message::Message::Update(update)) }
    };
    assert_eq!(bench.store.workload(), None);
    bench.writer.receive(workload(9, "new"));
    bench.writer.receive(workload(8, "old"));
    assert_eq!(sent(&mut bench.writer), ["ack workload uid-1 9", "ack workload uid-1 9"]);
    assert_eq!(bench.store.workload().unwrap().name, "new");
    assert_eq!(bench.readiness.missing(), Vec::<&str>::new());
    bench.writer.closed();
    assert_eq!(bench.readiness.missing(), Vec::<&str>::new(), "it goes on with what it has");
}

#[tokio::test(start_paused = true)]
async fn no_answer_piles_up_without_a_bound() {
    let mut bench = bench();
    drop(bench.ask(address(1)));
    let mut received: u64 = 0;
    while bench.writer.takes_more() {
        received += 1;
        bench.writer.receive(update(address(1), received, pass_through()));
    }
    assert!(received <= u64::try_from(UNSENT_LIMIT).unwrap());
}
