//! `meshctl tap`: requests of workloads while they happen.

pub mod arguments;
pub mod render;
pub mod report;
pub mod source;

use std::time::Duration;

use heddle_model::tap::TapRequest;
use heddle_proto::tap as wire;
use heddle_proto::tap::event::Event;
use heddle_runtime::duration::Text;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::output::{self, Colour};
use crate::run::Ending;
use crate::tap::arguments::{Lines, TapArguments};
use crate::tap::render::Columns;
use crate::tap::report::{Exchange, Line, Sum};
use crate::tap::source::Events;

/// Shows requests until somebody interrupts, nobody reads, or enough was seen.
pub async fn run(options: TapArguments, colour: Colour) -> Result<Ending, Failure> {
    let target = options.which.target.find().await?;
    let request = options.request(target.default_namespace())?;
    let account = options.which.as_service_account.as_ref();
    let mut events = Events::open(&target, &request, account).await?;
    let mut show = Show::new(&options, &request, colour);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let patience = tokio::time::sleep(PATIENCE);
    tokio::pin!(patience);
    let mut waits = true;
    while show.is_open() {
        tokio::select! {
            event = events.next() => match event {
                Ok(event) => show.event(event)?,
                Err(failure) => {
                    show.end("the control plane is gone")?;
                    return Err(failure);
                }
            },
            _interrupted = &mut interrupted => show.end("interrupted")?,
            () = &mut patience, if waits => {
                waits = false;
                show.tell_of_silence();
            }
        }
    }
    Ok(Ending::Good)
}

/// What is shown, and what was.
struct Show<'a> {
    options: &'a TapArguments,
    request: &'a TapRequest,
    colour: Colour,
    columns: Columns,
    began: Instant,
    standing: wire::Standing,
    sum: Sum,
    has_ended: bool,
}

impl<'a> Show<'a> {
    fn new(options: &'a TapArguments, request: &'a TapRequest, colour: Colour) -> Self {
        Self {
            options,
            request,
            colour,
            columns: Columns::default(),
            began: Instant::now(),
            standing: wire::Standing::default(),
            sum: Sum::default(),
            has_ended: false,
        }
    }

    fn is_open(&self) -> bool {
        !self.has_ended
    }

    fn event(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Exchange(told) => self.exchange(&told),
            Event::Standing(standing) => self.standing(standing),
            Event::Ended(ended) => self.end(&ended.reason),
        }
    }

    fn exchange(&mut self, told: &wire::Exchange) -> Result<(), Failure> {
        self.sum.exchanges += 1;
        self.sum.failures += u64::from(report::is_failure(told));
        let text = match self.options.output {
            Lines::Text => self.columns.line(told, self.colour),
            Lines::Json => {
                let exchange = Exchange::new(told, self.options.headers);
                output::json(&Line::Exchange(Box::new(exchange)), true)?
            }
        };
        self.print(&text)?;
        match self.options.count {
            Some(count) if self.sum.exchanges >= count => self.end("as many as were asked for"),
            Some(_) | None => Ok(()),
        }
    }

    fn standing(&mut self, standing: wire::Standing) -> Result<(), Failure> {
        let last = std::mem::replace(&mut self.standing, standing);
        // A replica that is not heard for a moment has still left out what it did.
        let left_out = self.standing.left_out.max(self.sum.left_out);
        let more = left_out - self.sum.left_out;
        self.sum.left_out = left_out;
        let silent = &self.standing.silent_replicas;
        if !silent.is_empty() && *silent != last.silent_replicas {
            output::hint(&format!(
                "warning: what proxies tell the control plane at {} is missing: it does not answer",
                silent.join(", ")
            ));
        }
        let (proxies, without_proxy) = (self.standing.proxies, self.standing.without_proxy);
        if (proxies, without_proxy) != (last.proxies, last.without_proxy) {
            match self.options.output {
                Lines::Text => output::hint(&render::looking(&self.standing)),
                Lines::Json => {
                    let line = Line::Looking { proxies, without_proxy };
                    self.print(&output::json(&line, true)?)?;
                }
            }
        }
        if more == 0 {
            return Ok(());
        }
        let text = match self.options.output {
            Lines::Text => self.colour.dim(&format!("... {more} left out")) + "\n",
            Lines::Json => output::json(&Line::LeftOut { left_out }, true)?,
        };
        self.print(&text)
    }

    fn tell_of_silence(&self) {
        if self.sum.exchanges == 0 && self.sum.left_out == 0 {
            let has_filter = self.request.tap.filter != heddle_model::tap::Filter::default();
            output::hint(&render::silence(&self.standing, has_filter));
        }
    }

    fn print(&mut self, text: &str) -> Result<(), Failure> {
        // Nobody is left to be shown anything.
        self.has_ended |= !output::print_to_reader(text)?;
        Ok(())
    }

    fn end(&mut self, reason: &str) -> Result<(), Failure> {
        self.has_ended = true;
        self.sum.reason = reason.to_owned();
        self.sum.seconds = self.began.elapsed().as_secs_f64();
        match self.options.output {
            Lines::Json => self.print(&output::json(&Line::End(self.sum.clone()), true)?),
            Lines::Text => {
                let took = Duration::from_secs(self.began.elapsed().as_secs());
                let Sum { exchanges, failures, left_out, .. } = &self.sum;
                output::hint(&format!(
                    "{exchanges} requests in {} ({failures} failed), {left_out} left out: {reason}",
                    Text(took)
                ));
                Ok(())
            }
        }
    }
}

/// Before it is said that nothing comes.
const PATIENCE: Duration = Duration::from_secs(5);
