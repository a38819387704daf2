//! Answers to questions, in the JSON of `meshctl -o json`, from the services that meshctl asks.

use std::time::Duration;

use heddle_proto::admin::GetRoutesRequest;
use heddle_proto::admin::admin_server::Admin as _;
use heddle_proto::telemetry as wire;
use heddle_proto::telemetry::telemetry_server::Telemetry as _;
use heddle_report::edges::EdgesReport;
use heddle_report::identity::IdentityReport;
use heddle_report::proxy;
use heddle_report::routes::RoutesReport;
use heddle_report::stat::{StatReport, Subject};
use heddle_report::status::StatusReport;
use heddle_report::timeline::TimelineReport;
use heddle_runtime::clock;
use serde::Serialize;
use tonic::{Code, Request};

use crate::admin::identity::seconds;
use crate::admin::listen::Services;
use crate::dashboard::guard::Refusal;
use crate::dashboard::question::{Look, Question};
use crate::dashboard::services;

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct About {
    /// The program's.
    version: &'static str,
    /// Of all identities.
    trust_domain: String,
    /// Seconds since 1970: what is said to end is held against this clock.
    now: i64,
    /// Of the newest configuration; null: none was read so far.
    config_version: Option<u64>,
    /// How many control planes there are beside this one: proxies that are connected to them are not told of here, but
    /// their traffic is.
    other_control_planes: usize,
}

/// Asks whoever knows.
pub(super) async fn answer(services: &Services, question: Question) -> Result<String, Refusal> {
    let Services { admin, telemetry, tap: _ } = services;
    match question {
        Question::About => written(&about(services)),
        Question::Stat(what, look) => {
            let window = Duration::from_secs(look.window_seconds.into());
            let told = query(services, what.grouping(), look).await?;
            written(&StatReport::new(told, &Subject { what, name: None }, window))
        }
        Question::Edges(look) => {
            let window = Duration::from_secs(look.window_seconds.into());
            let told = query(services, wire::Grouping::Edge, look).await?;
            written(&EdgesReport::new(told, window))
        }
        Question::Timeline(what, request) => {
            let asked = telemetry.timeline(Request::new(request.clone())).await;
            let told = asked.map_err(|status| refused(&status))?.into_inner();
            written(&TimelineReport::new(told, what, &request))
        }
        Question::Services => {
            let snapshot = telemetry.snapshots.borrow().clone();
            let unread = || Refusal::Unavailable(NOTHING_READ.to_owned());
            written(&services::services(&snapshot.ok_or_else(unread)?.contents))
        }
        Question::Status => written(&StatusReport::from(admin.status())),
        Question::Proxies => written(&proxy::proxies(one(admin.status()))),
        Question::Identity => written(&IdentityReport::new(one(admin.identity_status()))),
        Question::Routes => {
            let asked = admin.get_routes(Request::new(GetRoutesRequest::default())).await;
            let told = asked.map_err(|status| refused(&status))?.into_inner();
            written(&RoutesReport::from(told))
        }
    }
}

/// What one control plane says, which needs no name.
fn one<T>(said: T) -> Vec<(String, T)> {
    vec![(String::new(), said)]
}

fn about(services: &Services) -> About {
    let Services { admin, telemetry, tap: _ } = services;
    let snapshot = telemetry.snapshots.borrow().clone();
    let replicas = telemetry.replicas.as_ref().zip(snapshot.as_ref());
    About {
        version: env!("CARGO_PKG_VERSION"),
        trust_domain: admin.authorities.current().trust_domain().to_string(),
        now: seconds(clock::now()),
        config_version: snapshot.as_ref().map(|snapshot| snapshot.version.0),
        other_control_planes: replicas.map_or(0, |(replicas, snapshot)| replicas.count(snapshot)),
    }
}

async fn query(
    services: &Services,
    group_by: wire::Grouping,
    look: Look,
) -> Result<wire::QueryResponse, Refusal> {
    let request = wire::QueryRequest {
        window_seconds: look.window_seconds,
        group_by: group_by.into(),
        namespace: look.namespace,
        // Charts ask for a timeline.
        history_seconds: 0,
    };
    let asked = services.telemetry.query(Request::new(request)).await;
    Ok(asked.map_err(|status| refused(&status))?.into_inner())
}

fn written<T: Serialize>(report: &T) -> Result<String, Refusal> {
    serde_json::to_string(report).map_err(|error| Refusal::Unwritten(error.to_string()))
}

fn refused(status: &tonic::Status) -> Refusal {
    let said = status.message().to_owned();
    if status.code() == Code::InvalidArgument {
        Refusal::Invalid(said)
    } else {
        Refusal::Unavailable(said)
    }
}

const NOTHING_READ: &str = "the control plane has not read the configuration yet";
