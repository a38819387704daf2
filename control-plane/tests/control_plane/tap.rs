//! Taps between whoever asks and proxies: whose proxies are told to look, and what of their answers is passed on.

use std::time::Duration;

use heddle_model::tap::{Filter, Limits, Shown, Subject, Tap, TapRequest};
use heddle_proto::tap::event::Event;
use heddle_proto::tap::order::Order;
use heddle_proto::tap::tap_client::TapClient;
use heddle_proto::tap::tap_proxy_client::TapProxyClient;
use heddle_proto::tap::tap_share_client::TapShareClient;
use heddle_proto::tap::{self as wire, Exchange, Told, WatchRequest};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::client::Client;
use crate::world::World;

const SOON: Duration = Duration::from_secs(10);

/// Of which the control plane knows the pods.
async fn world() -> World {
    let world = World::start().await;
    world.status_where(|status| status.version > 0).await;
    world
}

fn request(subject: Subject) -> WatchRequest {
    let limits = Limits { per_second: 10, lifetime: Duration::from_secs(60) };
    let filter = Filter { method: Some("GET".into()), ..Filter::default() };
    let tap = Tap { filter, limits, shown: Shown::default(), follow: None };
    (&TapRequest { subject, tap }).into()
}

fn pod(name: &str) -> Subject {
    Subject::Pod { namespace: "shop".into(), name: name.into() }
}

/// A proxy that is attached.
struct Proxy {
    told: mpsc::Sender<Told>,
    orders: Streaming<wire::Order>,
}

impl Proxy {
    async fn attach(client: &Client, world: &World) -> Result<Self, Status> {
        let (told, outgoing) = mpsc::channel(64);
        let mut proxy = TapProxyClient::new(client.channel(world.address()).await);
        let orders = proxy.attach(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self { told, orders })
    }

    async fn order(&mut self) -> Order {
        let order = timeout(SOON, self.orders.message()).await.expect("an order in time");
        order.unwrap().unwrap().order.unwrap()
    }

    async fn begins(&mut self) -> wire::Begin {
        match self.order().await {
            Order::Begin(begin) => begin,
            Order::End(number) => panic!("{number} ends"),
        }
    }

    async fn tell(&self, tap: u64, exchanges: Vec<Exchange>, left_out: u64) {
        self.told.send(Told { tap, exchanges, left_out }).await.unwrap();
    }
}

fn exchange(path: &str) -> Exchange {
    // What a proxy says of itself does not count.
    let workload =
        wire::Workload { name: "store".into(), pod: "store-1".into(), ..Default::default() };
    Exchange { path: path.to_owned(), workload: Some(workload), ..Exchange::default() }
}

async fn watch(world: &World, subject: Subject) -> Streaming<wire::Event> {
    let mut client: TapClient<Channel> = TapClient::new(world.admin().await);
    client.watch(request(subject)).await.unwrap().into_inner()
}

async fn until<T>(
    events: &mut Streaming<wire::Event>,
    mut found: impl FnMut(Event) -> Option<T>,
) -> T {
    timeout(SOON, async {
        loop {
            let event = events.message().await.unwrap().unwrap().event.unwrap();
            if let Some(found) = found(event) {
                return found;
            }
        }
    })
    .await
    .expect("an event in time")
}

fn shown(event: Event) -> Option<Exchange> {
    if let Event::Exchange(exchange) = event { Some(exchange) } else { None }
}

#[tokio::test]
async fn a_tap_is_told_of_what_the_proxies_of_its_workloads_see_and_of_nothing_else() {
    let world = world().await;
    let mut proxy = Proxy::attach(&Client::certified(&world).await, &world).await.unwrap();
    let mut tapped = watch(&world, pod("frontend")).await;
    let begin = proxy.begins().await;
    assert_eq!(begin.filter.as_ref().map(|filter| filter.method.as_str()), Some("GET"));
    assert!(begin.marks);
    let mut elsewhere = watch(&world, pod("api-v1")).await;
    // One that looks nowhere here, and a number that was never given out.
    proxy.tell(begin.tap, Vec::new(), 0).await;
    proxy.tell(begin.tap + 1, vec![exchange("/forged")], 0).await;
    proxy.tell(begin.tap, vec![exchange("/a"), exchange("/b")], 7).await;
    let first = until(&mut tapped, shown).await;
    let workload = first.workload.unwrap();
    assert_eq!((first.path.as_str(), workload.pod.as_str()), ("/a", "frontend"));
    assert_eq!(workload.identity, "spiffe://cluster.local/ns/shop/sa/frontend");
    assert_eq!(until(&mut tapped, shown).await.path, "/b");
    let standing = until(&mut tapped, |event| match event {
        Event::Standing(standing) => Some(standing).filter(|standing| standing.left_out > 0),
        Event::Exchange(_) | Event::Ended(_) => None,
    });
    let standing = standing.await;
    assert_eq!((standing.proxies, standing.left_out, standing.without_proxy), (1, 7, 0));
    let standing = until(&mut elsewhere, |event| match event {
        Event::Standing(standing) => Some(standing),
        Event::Exchange(_) | Event::Ended(_) => panic!("something else was told first"),
    });
    assert_eq!(standing.await.proxies, 0);
    assert!(world.metrics().await.contains("heddle_control_plane_taps 2"));
    drop(tapped);
    assert_eq!(proxy.order().await, Order::End(begin.tap));
    drop(elsewhere);
}

#[tokio::test]
async fn a_proxy_that_comes_later_looks_too_and_a_reader_that_stalls_keeps_nobody() {
    let world = world().await;
    let mut tapped = watch(&world, Subject::Namespace("shop".into())).await;
    let mut proxy = Proxy::attach(&Client::certified(&world).await, &world).await.unwrap();
    let begin = proxy.begins().await;
    let long = "x".repeat(1000);
    let batch = || vec![Exchange { authority: long.clone(), ..exchange("/") }; 32];
    // Nobody reads meanwhile.
    const BATCHES: u64 = 400;
    for _ in 0..BATCHES {
        timeout(SOON, proxy.tell(begin.tap, batch(), 0)).await.expect("nobody waits for a reader");
    }
    let (mut told, mut left_out) = (0, 0);
    until(&mut tapped, |event| {
        match event {
            Event::Exchange(_) => told += 1,
            Event::Standing(standing) => left_out = standing.left_out,
            Event::Ended(ended) => panic!("{ended:?}"),
        }
        (told + left_out == BATCHES * 32).then_some(())
    })
    .await;
    assert!(left_out > 0 && told > 0, "{told} told, {left_out} left out");
}

#[tokio::test]
async fn a_proxy_that_tells_too_much_at_once_is_sent_away_and_may_come_again() {
    let world = world().await;
    let _tapped = watch(&world, pod("frontend")).await;
    let client = Client::certified(&world).await;
    let mut proxy = Proxy::attach(&client, &world).await.unwrap();
    let begin = proxy.begins().await;
    proxy.tell(begin.tap, vec![exchange("/"); 33], 0).await;
    let ended = timeout(SOON, proxy.orders.message()).await.expect("an end in time");
    assert!(matches!(ended, Ok(None) | Err(_)), "{ended:?}");
    let mut again = Proxy::attach(&client, &world).await.unwrap();
    again.begins().await;
}

#[tokio::test]
async fn who_is_nobody_of_the_mesh_is_told_and_tells_nothing() {
    let world = world().await;
    let stranger = Client::new(&world);
    let refused = Proxy::attach(&stranger, &world).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    for client in [stranger, Client::certified(&world).await] {
        let channel = client.channel(world.address()).await;
        let refused = TapShareClient::new(channel).watch_share(request(Subject::All)).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
        // What people ask is not served where proxies are.
        let channel = client.channel(world.address()).await;
        let refused = TapClient::new(channel).watch(request(Subject::All)).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
    }
}

#[tokio::test]
async fn what_cannot_be_tapped_is_refused_with_the_reason() {
    let world = world().await;
    let mut client = TapClient::new(world.admin().await);
    let refused = client.watch(request(pod("frontent"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("there is no Pod shop/frontent"), "{refused}");
    let nothing = client.watch(WatchRequest::default()).await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument);
    let mut running = Vec::new();
    for _ in 0..16 {
        running.push(watch(&world, pod("frontend")).await);
    }
    let refused = client.watch(request(pod("frontend"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    drop(running);
    let again = timeout(SOON, async {
        while client.watch(request(pod("frontend"))).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    again.await.expect("there is room again");
}
