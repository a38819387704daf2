//! What the source tells when an API server does what a real one does not do on demand: forgets where a
//! watch was, breaks off in the middle of a list, and learns of a kind later.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use heddle_runtime::tasks::Tasks;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::*;
use crate::source::Unit;
use crate::test_client::{self, Answer};

/// An API server that holds services, and routes if it knows the kind.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

struct State {
    /// Port by name.
    services: BTreeMap<String, u16>,
    /// How many services are in a part of a list at most.
    page: usize,
    /// How much each service says that nobody reads.
    junk_bytes: usize,
    routes: Option<BTreeMap<String, String>>,
    version: u64,
    /// The next watches of services that end with 410.
    forgotten: usize,
    /// The next lists of services that break off after their first page.
    broken: usize,
    /// How many lists of services were begun.
    lists: usize,
    /// How many services each list asked for at most.
    limits: Vec<usize>,
    /// The next requests for services that are not answered at all.
    hanging: usize,
    /// Services may not be read.
    forbidden: bool,
    /// The definition of routes is there, but not served yet.
    starting: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            services: BTreeMap::new(),
            page: 1,
            junk_bytes: 0,
            routes: None,
            version: 0,
            forgotten: 0,
            broken: 0,
            lists: 0,
            limits: Vec::new(),
            hanging: 0,
            forbidden: false,
            starting: false,
        }
    }
}

impl Server {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.version += 1;
        change(&mut state)
    }

    fn answer(&self, request: &http::Request<Body>) -> Answer {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let watch = query.contains("watch=true");
        match request.uri().path() {
            "/api/v1/services" if self.hangs() => test_client::never(),
            "/api/v1/services" if self.with(|state| state.forbidden) => {
                test_client::json(403, status(403, "Forbidden"))
            }
            "/api/v1/services" if watch => self.watch_services(),
            "/api/v1/services" => self.list_services(&query),
            "/apis" => self.groups(),
            "/apis/gateway.networking.k8s.io/v1" => self.resources(),
            "/apis/gateway.networking.k8s.io/v1/httproutes" => self.list_routes(watch),
            path if path.starts_with("/apis/apiextensions.k8s.io/") => self.definition(path),
            _ if watch => quiet(),
            _ => test_client::json(200, list(9, &[], "")),
        }
    }

    fn hangs(&self) -> bool {
        self.with(|state| {
            let hangs = state.hanging > 0;
            state.hanging -= usize::from(hangs);
            hangs
        })
    }

    fn list_services(&self, query: &str) -> Answer {
        let asked = |name: &str| {
            let found =
                query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            found.and_then(|value| value.parse::<usize>().ok())
        };
        let (from, limit) = (asked("continue"), asked("limit").unwrap());
        self.with(|state| {
            state.lists += usize::from(from.is_none());
            state.limits.push(limit);
            let from = from.unwrap_or_default();
            if from > 0 && state.broken > 0 {
                state.broken -= 1;
                return test_client::json(500, status(500, "InternalError"));
            }
            let page = limit.min(state.page);
            let junk = "x".repeat(state.junk_bytes);
            let services = state.services.iter().skip(from).take(page);
            let items: Vec<Value> = services
                .map(|(name, port)| {
                    json!({
                        "metadata": {"name": name, "namespace": "shop", "uid": name,
                            "resourceVersion": "1", "annotations": {"junk": junk}},
                        "spec": {"ports": [{"port": port}]},
                    })
                })
                .collect();
            let next = from + items.len();
            let more = if next < state.services.len() { next.to_string() } else { String::new() };
            test_client::json(200, list(state.version, &items, &more))
        })
    }

    fn watch_services(&self) -> Answer {
        let forgotten = self.with(|state| {
            let forgotten = state.forgotten > 0;
            state.forgotten -= usize::from(forgotten);
            forgotten
        });
        if !forgotten {
            return quiet();
        }
        let line = json!({"type": "ERROR", "object": status(410, "Expired")});
        test_client::watch(&[line], Duration::from_secs(60))
    }

    fn groups(&self) -> Answer {
        let served = self.with(|state| state.routes.is_some() && !state.starting);
        let version = json!({"groupVersion": "gateway.networking.k8s.io/v1", "version": "v1"});
        let group = json!({"name": "gateway.networking.k8s.io", "versions": [version]});
        let groups = if served { vec![group] } else { Vec::new() };
        test_client::json(200, json!({"kind": "APIGroupList", "groups": groups}))
    }

    fn resources(&self) -> Answer {
        let resource = |name: &str| {
            json!({"name": name, "kind": "HTTPRoute", "namespaced": true, "singularName": "",
                "verbs": []})
        };
        let resources = json!([resource("httproutes"), resource("httproutes/status")]);
        let body = json!({"groupVersion": "gateway.networking.k8s.io/v1", "resources": resources});
        test_client::json(200, body)
    }

    fn list_routes(&self, watch: bool) -> Answer {
        let (routes, version) = self.with(|state| (state.routes.clone(), state.version));
        let route = |(name, host): (&String, &String)| {
            json!({
                "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": 1,
                    "resourceVersion": "1"},
                "spec": {"hostnames": [host]},
            })
        };
        match routes {
            Some(_) if watch => quiet(),
            Some(routes) => {
                let routes: Vec<Value> = routes.iter().map(route).collect();
                test_client::json(200, list(version, &routes, ""))
            }
            None => test_client::json(404, status(404, "NotFound")),
        }
    }

    fn definition(&self, path: &str) -> Answer {
        let defined = self.with(|state| state.routes.is_some());
        if !defined || !path.ends_with("/httproutes.gateway.networking.k8s.io") {
            return test_client::json(404, status(404, "NotFound"));
        }
        let versions = json!([{"name": "v1", "served": true}]);
        let body = json!({"metadata": {"name": "httproutes"}, "spec": {"versions": versions}});
        test_client::json(200, body)
    }
}

/// A watch that tells nothing, and ends as they all do.
fn quiet() -> Answer {
    test_client::watch(&[], Duration::from_secs(60))
}

fn list(version: u64, items: &[Value], more: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "List", "items": items,
        "metadata": {"resourceVersion": version.to_string(), "continue": more},
    })
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": code})
}

/// A source that reads a server.
struct Source {
    events: mpsc::Receiver<Vec<Event>>,
    tasks: Tasks,
    metrics: Metrics,
}

impl Source {
    fn of(server: &Server) -> Self {
        let answering = server.clone();
        let client = test_client::answering(move |request| answering.answer(&request));
        let tasks = Tasks::new();
        let (sender, events) = mpsc::channel(16);
        let metrics = Metrics::default();
        let source = Kubernetes::new(client, metrics.clone());
        tasks.spawn("source.kubernetes", source.run(sender, tasks.drain().clone()));
        Self { events, tasks, metrics }
    }

    fn is_failing(&self, kind: &'static str) -> bool {
        self.metrics.watch_failing(kind).get() == 1
    }

    /// What is told until something is told that contains `last`.
    async fn told_until(&mut self, last: &str) -> Vec<String> {
        let mut told = Vec::new();
        let all = async {
            loop {
                let batch = self.events.recv().await.expect("the source runs");
                told.extend(batch.iter().map(shown));
                if told.iter().any(|event| event.contains(last)) {
                    return;
                }
            }
        };
        let ended = timeout(Duration::from_secs(120), all).await;
        assert!(ended.is_ok(), "{last} is not told");
        told
    }

    /// What is told within a while.
    async fn told_within(&mut self, duration: Duration) -> Vec<String> {
        let end = Instant::now() + duration;
        let mut told = Vec::new();
        while let Ok(Some(batch)) = tokio::time::timeout_at(end, self.events.recv()).await {
            told.extend(batch.iter().map(shown));
        }
        told
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.tasks.begin_drain();
    }
}

fn shown(event: &Event) -> String {
    match event {
        Event::Applied(object) => format!("applied {}", object.reference),
        Event::Deleted(reference) => format!("deleted {reference}"),
        Event::Failed { unit: Unit::Object(reference), .. } => format!("failed {reference}"),
        Event::Failed { unit: Unit::File(file), .. } => panic!("{file}"),
        Event::Synced => "synced".to_owned(),
    }
}

const AWHILE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn everything_is_told_before_that_it_was() {
    let server = Server::default();
    server.with(|state| {
        state.services = BTreeMap::from([("a".to_owned(), 80), ("b".to_owned(), 80)]);
        state.routes = Some(BTreeMap::from([("r".to_owned(), "a.b".to_owned())]));
    });
    let mut source = Source::of(&server);
    let mut told = source.told_until("synced").await;
    assert_eq!(told.pop().unwrap(), "synced");
    told.sort();
    assert_eq!(
        told,
        ["applied HTTPRoute shop/r", "applied Service shop/a", "applied Service shop/b"]
    );
    assert_eq!(source.told_within(AWHILE).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_watch_is_told_as_differences() {
    let server = Server::default();
    server.with(|state| {
        state.services = BTreeMap::from([("a".to_owned(), 80), ("b".to_owned(), 80)]);
    });
    let mut source = Source::of(&server);
    source.told_until("synced").await;
    server.with(|state| {
        state.services = BTreeMap::from([("b".to_owned(), 80), ("c".to_owned(), 80)]);
        state.forgotten = 1;
    });
    let told = source.told_until("deleted").await;
    assert_eq!(told, ["applied Service shop/c", "deleted Service shop/a"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_breaks_off_takes_nothing_away() {
    let server = Server::default();
    server.with(|state| {
        state.services = BTreeMap::from([("a".to_owned(), 80), ("b".to_owned(), 80)]);
        state.broken = 3;
    });
    let mut source = Source::of(&server);
    let told = source.told_until("synced").await;
    assert_eq!(told.iter().filter(|event| event.starts_with("applied")).count(), 2);
    server.with(|state| (state.broken, state.forgotten) = (3, 1));
    assert_eq!(source.told_within(AWHILE * 2).await, [""; 0], "nothing is gone");
    server.with(|state| {
        assert_eq!((state.broken, state.forgotten), (0, 0), "they broke off");
        assert_eq!(state.lists, 8, "three of four, and again");
    });
    assert!(!source.is_failing("Service"));
}

#[tokio::test(start_paused = true)]
async fn what_a_list_holds_is_told_when_it_is_complete() {
    let server = Server::default();
    server.with(|state| {
        state.services = BTreeMap::from([("a".to_owned(), 80), ("b".to_owned(), 80)]);
    });
    let mut source = Source::of(&server);
    source.told_until("synced").await;
    server.with(|state| {
        state.services = BTreeMap::from([("a".to_owned(), 81), ("c".to_owned(), 80)]);
        (state.broken, state.forgotten) = (1000, 1);
    });
    assert_eq!(source.told_within(AWHILE * 2).await, [""; 0], "only a half was read");
    assert!(source.is_failing("Service"));
    server.with(|state| state.broken = 0);
    let told = source.events.recv().await.unwrap();
    let told: Vec<String> = told.iter().map(shown).collect();
    let expected = ["applied Service shop/a", "applied Service shop/c", "deleted Service shop/b"];
    assert_eq!(told, expected, "at once");
}

#[tokio::test(start_paused = true)]
async fn large_objects_are_asked_for_in_smaller_parts() {
    let server = Server::default();
    server.with(|state| {
        state.services = (0..40).map(|index| (format!("s{index:02}"), 80)).collect();
        (state.page, state.junk_bytes) = (usize::MAX, 1 << 20);
    });
    let mut source = Source::of(&server);
    let told = source.told_until("synced").await;
    assert_eq!(told.iter().filter(|event| event.starts_with("applied")).count(), 40);
    server.with(|state| {
        let page = usize::try_from(follow::PAGE_OBJECTS).unwrap();
        assert_eq!(state.limits.first(), Some(&page));
        assert!(state.limits.contains(&(page / 4)), "{:?}", state.limits);
        assert_eq!(state.lists, 2, "one was too large: {:?}", state.limits);
    });
    assert!(!source.is_failing("Service"), "large objects are no failure");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_always_forgotten_does_not_list_without_pause() {
    let server = Server::default();
    server.with(|state| state.forgotten = usize::MAX);
    let mut source = Source::of(&server);
    source.told_until("synced").await;
    let told = source.told_within(Duration::from_secs(1800)).await;
    assert_eq!(told, [""; 0]);
    assert!(source.is_failing("Service"), "an operator must know");
    let lists = server.with(|state| {
        state.forgotten = 0;
        state.lists
    });
    assert!((10..350).contains(&lists), "{lists} lists in half an hour");
    source.told_within(AWHILE * 3).await;
    assert!(!source.is_failing("Service"));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_not_answered_is_asked_for_again() {
    let server = Server::default();
    server.with(|state| state.hanging = 2);
    let mut source = Source::of(&server);
    let told = timeout(AWHILE * 4, source.events.recv()).await.expect("it goes on").unwrap();
    assert_eq!(told.iter().map(shown).collect::<Vec<_>>(), ["synced"]);
    assert_eq!(server.with(|state| state.hanging), 0);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_may_not_be_read_is_told_in_the_metrics() {
    let server = Server::default();
    server.with(|state| state.services = BTreeMap::from([("a".to_owned(), 80)]));
    let mut source = Source::of(&server);
    source.told_until("synced").await;
    assert!(!source.is_failing("Service"));
    server.with(|state| state.forbidden = true);
    assert_eq!(source.told_within(AWHILE * 2).await, [""; 0], "what is known stays");
    assert!(source.is_failing("Service") && !source.is_failing("Pod"));
    server.with(|state| state.forbidden = false);
    assert_eq!(source.told_within(AWHILE).await, [""; 0], "nothing is new");
    assert!(!source.is_failing("Service"));
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_comes_later_is_found_and_one_that_goes_is_cleared() {
    let server = Server::default();
    let mut source = Source::of(&server);
    source.told_until("synced").await;
    let routes = || Some(BTreeMap::from([("r".to_owned(), "a.b".to_owned())]));
    server.with(|state| state.routes = routes());
    assert_eq!(source.told_until("applied").await, ["applied HTTPRoute shop/r"]);
    server.with(|state| state.starting = true);
    assert_eq!(source.told_within(AWHILE).await, [""; 0], "a kind that is defined is not gone");
    server.with(|state| state.routes = None);
    assert_eq!(source.told_until("deleted").await, ["deleted HTTPRoute shop/r"]);
    server.with(|state| (state.routes, state.starting) = (routes(), false));
    assert_eq!(source.told_until("applied").await, ["applied HTTPRoute shop/r"]);
}
