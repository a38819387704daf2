//! What a path and its query ask for. Pure.

mod tap;

use std::collections::BTreeMap;

use heddle_model::tap::TapRequest;
use heddle_proto::telemetry as wire;
use heddle_report::stat::What;
use http::Uri;

use crate::dashboard::guard::Refusal;
use crate::dashboard::page::{self, File};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A file of the page.
    File(File),
    /// What the control plane knows.
    Question(Question),
    /// Single requests, while they happen.
    Tap(Box<TapRequest>),
}

/// A question, answered in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Which control plane answers, and of how many.
    About,
    /// As `meshctl stat`.
    Stat(What, Look),
    /// As `meshctl edges`.
    Edges(Look),
    /// `meshctl stat` by time.
    Timeline(What, wire::TimelineRequest),
    /// Services, and which workloads are behind them.
    Services,
    /// As `meshctl status`.
    Status,
    /// As `meshctl proxy status`.
    Proxies,
    /// As `meshctl identity`.
    Identity,
    /// As `meshctl routes`, of all namespaces.
    Routes,
}

/// How traffic is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// How far back.
    pub(super) window_seconds: u32,
    /// Only what is in it; empty: all.
    pub(super) namespace: String,
}

impl Asked {
    /// Reads it; what is not known is refused, so that a mistake is no other question.
    pub(super) fn read(uri: &Uri) -> Result<Self, Refusal> {
        let path = uri.path();
        let Some(name) = path.strip_prefix("/api/v1/") else {
            let file = page::file(path);
            return file.map(Self::File).ok_or_else(|| Refusal::Unknown(path.to_owned()));
        };
        let mut words = Words::read(uri.query().unwrap_or_default())?;
        let asked = match name {
            "tap" => Self::Tap(Box::new(words.tap()?)),
            name => Question::read(name, &mut words)?
                .map(Self::Question)
                .ok_or_else(|| Refusal::Unknown(path.to_owned()))?,
        };
        match words.0.into_keys().next() {
            None => Ok(asked),
            Some(word) => Err(Refusal::Invalid(format!("\"{word}\" is not known of {path}"))),
        }
    }
}

impl Question {
    /// The question of this name; `None`: there is none.
    fn read(name: &str, words: &mut Words) -> Result<Option<Self>, Refusal> {
        Ok(Some(match name {
            "about" => Question::About,
            "stat" => Question::Stat(words.what()?, words.look()?),
            "edges" => Question::Edges(words.look()?),
            "timeline" => {
                let what = words.what()?;
                Question::Timeline(what, words.timeline(what)?)
            }
            "services" => Question::Services,
            "status" => Question::Status,
            "proxies" => Question::Proxies,
            "identity" => Question::Identity,
            "routes" => Question::Routes,
            _ => return Ok(None),
        }))
    }
}

/// The words of a query, each taken once.
struct Words(BTreeMap<String, String>);

impl Words {
    fn read(query: &str) -> Result<Self, Refusal> {
        let mut words = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if words.insert(name.clone(), value).is_some() {
                return Err(Refusal::Invalid(format!("\"{name}\" is given twice")));
            }
        }
        Ok(Self(words))
    }

    fn what(&mut self) -> Result<What, Refusal> {
        let word = self.0.remove("by").unwrap_or_else(|| What::Workloads(None).noun().to_owned());
        GROUPS.into_iter().find(|what| what.noun() == word).ok_or_else(|| {
            let known = GROUPS.map(What::noun).join(", ");
            Refusal::Invalid(format!("nothing is counted by \"{word}\": want {known}"))
        })
    }

    fn seconds(&mut self, name: &str, default: u32) -> Result<u32, Refusal> {
        let Some(word) = self.0.remove(name) else { return Ok(default) };
        let invalid = |_| Refusal::Invalid(format!("{name}=\"{word}\" is no number of seconds"));
        word.parse().map_err(invalid)
    }

    fn look(&mut self) -> Result<Look, Refusal> {
        let window_seconds = self.seconds("window", DEFAULT_WINDOW_SECONDS)?;
        let namespace = self.0.remove("namespace").unwrap_or_default();
        Ok(Look { window_seconds, namespace })
    }

    fn timeline(&mut self, what: What) -> Result<wire::TimelineRequest, Refusal> {
        Ok(wire::TimelineRequest {
            window_seconds: self.seconds("window", DEFAULT_TIMELINE_SECONDS)?,
            step_seconds: self.seconds("step", DEFAULT_STEP_SECONDS)?,
            group_by: what.grouping().into(),
            name: self.0.remove("name").unwrap_or_default(),
        })
    }
}

/// A word of a query, with its `%` and `+`.
fn decode(word: &str) -> Result<String, Refusal> {
    let invalid = || Refusal::Invalid(format!("\"{word}\" is not encoded as a query is"));
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || {
                    let digit = rest.next().and_then(|byte| char::from(byte).to_digit(16));
                    digit.and_then(|digit| u8::try_from(digit).ok()).ok_or_else(invalid)
                };
                digit()? * 16 + digit()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}

/// What can be counted by.
const GROUPS: [What; 5] =
    [What::Workloads(None), What::Pods, What::Services, What::Backends, What::Routes];
/// As meshctl has it.
const DEFAULT_WINDOW_SECONDS: u32 = 60;
const DEFAULT_TIMELINE_SECONDS: u32 = 600;
const DEFAULT_STEP_SECONDS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str) -> Result<Question, String> {
        match Asked::read(&uri.parse().unwrap()) {
            Ok(Asked::Question(question)) => Ok(question),
            Ok(other) => panic!("{uri} is no question: {other:?}"),
            Err(refusal) => Err(format!("{} {refusal}", refusal.status().as_u16())),
        }
    }

    #[test]
    fn a_path_is_a_question() {
        let look = |window_seconds, namespace: &str| Look {
            window_seconds,
            namespace: namespace.to_owned(),
        };
        for (uri, expected) in [
            ("/api/v1/status", Question::Status),
            ("/api/v1/stat", Question::Stat(What::Workloads(None), look(60, ""))),
            (
                "/api/v1/stat?by=backend&window=10&namespace=a%2Db",
                Question::Stat(What::Backends, look(10, "a-b")),
            ),
            ("/api/v1/edges?", Question::Edges(look(60, ""))),
            (
                "/api/v1/timeline?by=service&name=shop%2Fapi%3A80",
                Question::Timeline(
                    What::Services,
                    wire::TimelineRequest {
                        window_seconds: 600,
                        step_seconds: 10,
                        group_by: wire::Grouping::Service.into(),
                        name: "shop/api:80".to_owned(),
                    },
                ),
            ),
        ] {
            assert_eq!(read(uri), Ok(expected), "case: {uri}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_and_says_what_would_do() {
        for (uri, expected) in [
            ("/api/v1/nothing", "404 there is nothing at /api/v1/nothing"),
            (
                "/api/v1/stat?by=edge",
                "400 nothing is counted by \"edge\": want workload, pod, service, backend, route",
            ),
            ("/api/v1/stat?window=1m", "400 window=\"1m\" is no number of seconds"),
            ("/api/v1/stat?windw=10", "400 \"windw\" is not known of /api/v1/stat"),
            ("/api/v1/stat?window=10&window=20", "400 \"window\" is given twice"),
            ("/api/v1/status?namespace=a", "400 \"namespace\" is not known of /api/v1/status"),
            ("/api/v1/stat?namespace=%2", "400 \"%2\" is not encoded as a query is"),
            ("/api/v1/stat?namespace=%ff", "400 \"%ff\" is not encoded as a query is"),
        ] {
            assert_eq!(read(uri), Err(expected.to_owned()), "case: {uri}");
        }
        let refusal = Asked::read(&"/../etc/passwd".parse().unwrap()).unwrap_err();
        assert_eq!(refusal.status(), 404);
    }
}
