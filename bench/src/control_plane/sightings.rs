//! Sees what the proxies' own code says it does: a layer for its log events, each of which is of the proxy whose span it
//! is in. So nothing in the proxy is there for a benchmark.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heddle_runtime::clock;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::control_plane::micros;

/// What was seen so far. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Sightings(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    all: Vec<Sighting>,
    lost: u64,
}

/// What one proxy did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Its number.
    pub proxy: usize,
    /// Microseconds since 1970, as versions are.
    pub at_micros: u64,
    /// What it did.
    pub what: What,
}

/// What a proxy does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Its stream is open.
    Opened,
    /// It acts on an update.
    InUse {
        /// Of this.
        resource: String,
        /// In this version.
        version: u64,
    },
    /// It refused an update.
    Refused,
}

impl Sightings {
    /// Looks from now on, in this process. Once.
    pub fn begin() -> Result<Self, TryInitError> {
        let sightings = Self::default();
        let targets = Targets::new()
            .with_target("heddle_proxy::discovery", Level::DEBUG)
            .with_target("heddle_runtime::tasks", Level::INFO)
            .with_target(env!("CARGO_CRATE_NAME"), Level::INFO);
        let layer = Watcher(sightings.clone()).with_filter(targets);
        tracing_subscriber::registry().with(layer).try_init()?;
        Ok(sightings)
    }

    /// What was seen since this was last called, and how much there was no room for.
    pub fn take(&self) -> (Vec<Sighting>, u64) {
        let Seen { all, lost } = std::mem::take(&mut *self.lock());
        (all, lost)
    }

    fn see(&self, sighting: Sighting) {
        let mut seen = self.lock();
        if seen.all.len() < SIGHTINGS_LIMIT {
            seen.all.push(sighting);
        } else {
            seen.lost += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Watcher(Sightings);

/// The number of the proxy that a span is of.
struct Number(usize);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Watcher {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some((number, span)) = fields.proxy.zip(context.span(id)) {
            span.extensions_mut().insert(Number(number));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Some(what) = fields.what() else { return };
        let proxy = context.event_scope(event).and_then(|mut scope| {
            scope.find_map(|span| span.extensions().get::<Number>().map(|number| number.0))
        });
        if let Some(proxy) = proxy {
            self.0.see(Sighting { proxy, at_micros: micros(clock::now()), what });
        }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    resource: String,
    version: String,
    proxy: Option<usize>,
}

impl Fields {
    fn what(self) -> Option<What> {
        match self.message.as_str() {
            "discovery stream open" => Some(What::Opened),
            "update in use" => {
                Some(What::InUse { resource: self.resource, version: self.version.parse().ok()? })
            }
            "update refused" => Some(What::Refused),
            _ => None,
        }
    }
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == PROXY_FIELD {
            self.proxy = usize::try_from(value).ok();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "resource" => self.resource = format!("{value:?}"),
            "config_version" => self.version = format!("{value:?}"),
            _ => {}
        }
    }
}

/// The field of the span that everything of one proxy is in.
const PROXY_FIELD: &str = "proxy";
/// Many more than a thousand proxies hold.
const SIGHTINGS_LIMIT: usize = 1_000_000;
