//! `meshctl why`: what a call would meet, from the live configuration, and whether it would be served.

pub mod arguments;
pub mod decide;
pub mod gather;
pub mod question;
pub mod render;
pub mod report;

use std::time::SystemTime;

use heddle_runtime::clock;

use crate::failure::Failure;
use crate::output::{self, Colour, Output};
use crate::repeat::{self, Shown};
use crate::run::Ending;
use crate::why::arguments::WhyArguments;
use crate::why::question::Sent;
use crate::why::render::Detail;

/// Answers; a call that would not be served is no success.
pub async fn run(options: WhyArguments, colour: Colour) -> Result<Ending, Failure> {
    let sent = match options.tls {
        true => Sent::Tls,
        false => {
            let typed = (options.method.as_deref(), options.path.as_deref());
            question::request(&options.host, typed, &options.headers)?
        }
    };
    let target = options.target.find().await?;
    let namespace = options.namespace.as_deref().unwrap_or_else(|| target.default_namespace());
    let question = options.caller.ask(namespace, &options.host);
    repeat::show(options.watch, async || {
        let facts = gather::facts(&target, question.clone()).await?;
        let now = seconds();
        let report = decide::explain(&facts, &options.host, &sent, now)?;
        let ending = if report.served { Ending::Good } else { Ending::NotServed };
        let text = match options.output {
            Output::Json => output::json(&report, options.watch.watch)?,
            Output::Yaml => output::yaml(&report, options.watch.watch)?,
            Output::Name => render::names(&report),
            Output::Table => render::text(&report, Detail::Short, now, colour),
            Output::Wide => render::text(&report, Detail::Wide, now, colour),
        };
        Ok(Shown { text, hint: None, ending })
    })
    .await
}

fn seconds() -> i64 {
    let since = clock::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
