//! What is said of a request or a connection: names and values, in the order of a line. Names are those of
//! OpenTelemetry's semantic conventions where there are any. How they look is in json.rs and text.rs.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::access_log::words::bounded;
use crate::http::call_record::TraceIds;

/// One line.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// When it was over.
    pub at: SystemTime,
    /// What is told of.
    pub event: Event,
    /// Whether it is among the errors.
    pub has_failed: bool,
    /// What is told.
    pub attributes: Vec<Attribute<'a>>,
    /// Where it is in a trace, if it is in one.
    pub trace: Option<TraceIds>,
}

/// What a line tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request of HTTP.
    Request,
    /// A connection that carried bytes, or that was refused.
    Connection,
}

impl Event {
    /// Its name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "heddle.http.request",
            Self::Connection => "heddle.tcp.connection",
        }
    }
}

/// One thing that is said.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute<'a> {
    /// Its name in JSON and OTLP; empty: it is said to people only.
    pub name: &'static str,
    /// How it is said to people.
    pub label: Label,
    /// What is said; if that is nothing, it is left out.
    pub value: Value<'a>,
}

/// How something is said to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// By its place in the line: `-` stands for nothing.
    Place,
    /// By this word, if there is something to say.
    Named(&'static str),
    /// Not at all.
    Unsaid,
}

/// What is said.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Any text.
    Text(Cow<'a, str>),
    /// A whole number.
    Number(u64),
    /// A time that something took.
    Seconds(Duration),
}

impl Value<'_> {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Number(_) | Self::Seconds(_) => false,
        }
    }
}

impl<'a> Record<'a> {
    /// Nothing is said yet.
    pub fn new(event: Event, at: SystemTime, has_failed: bool) -> Self {
        Self { at, event, has_failed, attributes: Vec::with_capacity(ATTRIBUTES), trace: None }
    }

    /// How bad it is, as logs have it.
    pub fn severity(&self) -> &'static str {
        if self.has_failed { "ERROR" } else { "INFO" }
    }

    /// Says a text, at most so much of it.
    pub fn text(&mut self, name: &'static str, label: Label, text: &'a str) {
        let value = Value::Text(bounded(text, TEXT_LIMIT_BYTES));
        self.attributes.push(Attribute { name, label, value });
    }

    /// Says a text of our own making.
    pub fn owned(&mut self, name: &'static str, label: Label, text: String) {
        let value = match bounded(&text, TEXT_LIMIT_BYTES) {
            Cow::Borrowed(_) => Value::Text(Cow::Owned(text)),
            Cow::Owned(cut) => Value::Text(Cow::Owned(cut)),
        };
        self.attributes.push(Attribute { name, label, value });
    }

    /// Says a number.
    pub fn number(&mut self, name: &'static str, label: Label, number: impl Into<u64>) {
        self.attributes.push(Attribute { name, label, value: Value::Number(number.into()) });
    }

    /// Says how long something took.
    pub fn seconds(&mut self, name: &'static str, label: Label, time: Duration) {
        self.attributes.push(Attribute { name, label, value: Value::Seconds(time) });
    }

    /// Says an address and its port, in JSON each by itself.
    pub fn address(
        &mut self,
        [address, port]: [&'static str; 2],
        label: Label,
        said: Option<SocketAddr>,
    ) {
        let Some(said) = said else {
            if label == Label::Place {
                self.text("", label, "");
            }
            return;
        };
        self.owned("", label, said.to_string());
        self.owned(address, Label::Unsaid, said.ip().to_string());
        self.number(port, Label::Unsaid, said.port());
    }
}

/// What most records have.
const ATTRIBUTES: usize = 28;
/// Of one text: more than an authority, a name or an identity is, and of a path as much as tells which it is.
pub(super) const TEXT_LIMIT_BYTES: usize = 1024;
