//! `meshctl tap`: requests of workloads while they happen.

pub mod arguments;
pub mod render;
pub mod source;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use heddle_model::tap::TapRequest;
use heddle_proto::tap as wire;
use heddle_proto::tap::event::Event;
use heddle_report::tap::{Line, Sum, Telling};
use heddle_runtime::duration::Text;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::output::{self, Colour};
use crate::run::Ending;
use crate::tap::arguments::{Lines, TapArguments};
use crate::tap::render::Columns;
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
    telling: Telling,
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
            telling: Telling::new(options.headers),
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
        let line = self.telling.exchange(told);
        let text = match self.options.output {
            Lines::Text => self.columns.line(told, self.colour),
            Lines::Json => output::json(&line, true)?,
        };
        self.print(&text)?;
        match self.options.count {
            Some(count) if self.telling.sum().exchanges >= count => {
                self.end("as many as were asked for")
            }
            Some(_) | None => Ok(()),
        }
    }

    fn standing(&mut self, standing: wire::Standing) -> Result<(), Failure> {
        let silent_before = self.telling.last().silent_replicas.clone();
        let left_out_before = self.telling.sum().left_out;
        let looking_before = render::looking(self.telling.last());
        let news = self.telling.standing(standing);
        let silent = &self.telling.last().silent_replicas;
        if !silent.is_empty() && *silent != silent_before {
            output::hint(&format!(
                "warning: what proxies tell the control plane at {} is missing: it does not answer",
                silent.join(", ")
            ));
        }
        for line in news {
            match (self.options.output, &line) {
                (Lines::Json, line) => self.print(&output::json(line, true)?)?,
                (Lines::Text, Line::Looking { .. }) => {
                    let looking = render::looking(self.telling.last());
                    if looking != looking_before {
                        output::hint(&looking);
                    }
                }
                (Lines::Text, Line::LeftOut { left_out }) => {
                    let more = left_out - left_out_before;
                    self.print(&(self.colour.dim(&format!("... {more} left out")) + "\n"))?;
                }
                // How a tap is tells of no request, and of no end.
                (Lines::Text, Line::Exchange(_) | Line::End(_)) => {}
            }
        }
        Ok(())
    }

    fn tell_of_silence(&self) {
        let Sum { exchanges, left_out, .. } = self.telling.sum();
        if *exchanges == 0 && *left_out == 0 {
            let has_filter = self.request.tap.filter != heddle_model::tap::Filter::default();
            output::hint(&render::silence(self.telling.last(), has_filter));
        }
    }

    fn print(&mut self, text: &str) -> Result<(), Failure> {
        // Nobody is left to be shown anything.
        self.has_ended |= !output::print_to_reader(text)?;
        Ok(())
    }

    fn end(&mut self, reason: &str) -> Result<(), Failure> {
        self.has_ended = true;
        let line = self.telling.end(reason, self.began.elapsed());
        match self.options.output {
            Lines::Json => self.print(&output::json(&line, true)?),
            Lines::Text => {
                let took = Duration::from_secs(self.began.elapsed().as_secs());
                let Sum { exchanges, failures, left_out, .. } = self.telling.sum();
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
