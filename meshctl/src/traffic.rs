//! Asks the control plane what it remembers of the traffic: for `meshctl stat`, `meshctl edges` and `meshctl top`.

use std::time::Duration;

use clap::Args;
use futures_util::FutureExt as _;
use heddle_proto::telemetry::telemetry_client::TelemetryClient;
use heddle_proto::telemetry::{Grouping, QueryRequest, QueryResponse};
use heddle_runtime::duration;
use tonic::transport::Channel;

use crate::failure::Failure;
use crate::output::Output;
use crate::target::{Target, TargetArguments};

/// How traffic is chosen and shown.
#[derive(Clone, Debug, Args)]
pub struct Look {
    /// Only what is in it [default: the context's]
    #[arg(short, long, conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// How far back to count: 10s to 1h
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = window)]
    pub window: duration::Text,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Leave out the line of column names
    #[arg(long)]
    pub no_headers: bool,
    /// Whose.
    #[command(flatten)]
    pub target: TargetArguments,
}

impl Look {
    /// The namespace that is meant; `None`: all.
    pub fn namespace(&self, target: &Target) -> Option<String> {
        if self.all_namespaces {
            return None;
        }
        let named = self.namespace.clone();
        Some(named.unwrap_or_else(|| target.default_namespace().to_owned()))
    }

    /// Asks for the window.
    pub async fn ask(
        &self,
        target: &Target,
        group_by: Grouping,
        namespace: Option<&str>,
    ) -> Result<QueryResponse, Failure> {
        self.ask_with_history(target, (group_by, namespace), Duration::ZERO).await
    }

    /// Asks for the window, and for each ten seconds of the last `history`; of at most ten minutes.
    pub async fn ask_with_history(
        &self,
        target: &Target,
        (group_by, namespace): (Grouping, Option<&str>),
        history: Duration,
    ) -> Result<QueryResponse, Failure> {
        let request = QueryRequest {
            window_seconds: whole_seconds(self.window.0),
            group_by: group_by.into(),
            namespace: namespace.unwrap_or_default().to_owned(),
            history_seconds: whole_seconds(history),
        };
        let asked = target.ask_any(move |mut client: TelemetryClient<Channel>| {
            let request = request.clone();
            async move { Ok(client.query(request).await?.into_inner()) }.boxed()
        });
        asked.await
    }
}

/// What people should know of an answer that is not whole, or empty; `what` was looked for.
pub fn hint(
    response: &QueryResponse,
    look: &Look,
    what: &str,
    namespace: Option<&str>,
) -> Option<String> {
    let silent = &response.silent_replicas;
    if !silent.is_empty() {
        return Some(format!(
            "warning: what proxies told the control plane at {} is missing: it did not answer",
            silent.join(", ")
        ));
    }
    let place = match namespace {
        Some(namespace) => format!(" in namespace {namespace} (-A shows all)"),
        None => String::new(),
    };
    let is_busy = |group: &heddle_proto::telemetry::Group| {
        let requests = group.requests.as_ref().map_or(0, |requests| requests.count);
        let connections =
            group.tcp.as_ref().map_or(0, |tcp| tcp.connections.max(tcp.open_connections));
        requests > 0 || connections > 0
    };
    let window = look.window;
    if response.groups.iter().any(is_busy) {
        return None;
    }
    Some(if response.proxies == 0 {
        format!(
            "no proxy told of its traffic in the last {window}: a proxy does so within ten seconds of its first \
             request; `meshctl proxy status` shows which are connected"
        )
    } else if response.groups.is_empty() {
        format!("there is no {what}{place}, or nothing was sent to it in the last {window}")
    } else {
        format!(
            "nothing was sent to any {what}{place} in the last {window}; a longer --window reaches back up to 1h"
        )
    })
}

fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn window(text: &str) -> Result<duration::Text, String> {
    let window: duration::Text = text.parse().map_err(|error| format!("{error}"))?;
    let good = (SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&window.0);
    if good { Ok(window) } else { Err("want 10s to 1h: what is remembered".to_owned()) }
}

/// What the memory tells apart.
const SHORTEST_WINDOW: Duration = Duration::from_secs(10);
/// As far as the memory reaches back.
const LONGEST_WINDOW: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_within_what_is_remembered() {
        for (text, good) in
            [("10s", true), ("1h", true), ("9s", false), ("61m", false), ("1", false)]
        {
            assert_eq!(window(text).is_ok(), good, "case: {text}");
        }
    }
}
