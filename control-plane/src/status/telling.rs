//! Tells of objects that something is wrong with them, as Events, while this process leads. Apart from the
//! writing of status (`writer.rs`), which must not wait for it. Which Events is in `events.rs`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use heddle_model::names::ObjectReference;
use kube::runtime::events::Recorder;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{debug, warn};

use crate::status::events::{self, Budget, Told};
use crate::status::written::Said;

/// What is to be said of every object.
pub type All = Arc<Vec<(ObjectReference, Said)>>;

/// Tells what is to be said, for as long as it is polled.
pub async fn tell(recorder: &Recorder, said: watch::Receiver<All>) {
    let mut told = Told::default();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let all = Arc::clone(&said.borrow());
        let conditions = all.iter().map(|(name, said)| (name, &said.revision, said.all()));
        let news = told.news(conditions, BUDGET, Instant::now());
        let events = futures_util::stream::iter(news).map(|news| async move {
            let published = timeout(ANSWER_TIMEOUT, events::publish(recorder, &news)).await;
            (news, published)
        });
        let mut events = std::pin::pin!(events.buffer_unordered(EVENTS_AT_ONCE));
        while let Some((news, published)) = events.next().await {
            let object = &news.reference;
            match published {
                Ok(Ok(())) => {}
                // Where nothing may be made, such as in a namespace that is on its way out.
                Ok(Err(kube::Error::Api(status)))
                    if matches!(status.code, FORBIDDEN | NOT_FOUND) =>
                {
                    debug!(error = status.message, %object, "an Event is not taken");
                }
                Ok(Err(error)) => {
                    warn!(%error, %object, "an Event cannot be published; trying again");
                    told.forget(&news);
                }
                Err(_) => {
                    debug!(%object, "an Event is not taken in time; trying again");
                    told.forget(&news);
                }
            }
        }
    }
}

/// How often it is looked what should be told.
const LOOK: Duration = Duration::from_secs(1);
/// Events at one look.
const BUDGET: Budget = Budget { all: 10, of_namespace: 3 };
/// Requests at once.
const EVENTS_AT_ONCE: usize = 4;
/// How long the API server may take for one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// What the API server says where this may not be done.
const FORBIDDEN: u16 = 403;
/// What it says where there is nothing.
const NOT_FOUND: u16 = 404;
