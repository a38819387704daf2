//! What a check says: one line each, with what would do.

use schemars::JsonSchema;
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, and somebody should know.
    Warn,
    /// Does not work.
    Fail,
}

impl Level {
    /// As it is printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Area {
    /// The API server.
    Api,
    /// The nodes.
    Nodes,
    /// What the user may do.
    Permissions,
    /// Definitions of resources.
    Definitions,
    /// Control plane and injector.
    Workloads,
    /// Trust anchors and what is below them.
    Certificates,
    /// What gives pods their proxy.
    Webhook,
    /// Clocks.
    Clocks,
    /// Pods and their proxies.
    Coverage,
    /// Who runs what.
    Versions,
}

impl Area {
    /// As a headline.
    pub fn title(self) -> &'static str {
        match self {
            Self::Api => "API server",
            Self::Nodes => "nodes",
            Self::Permissions => "permissions",
            Self::Definitions => "resource definitions",
            Self::Workloads => "control plane",
            Self::Certificates => "certificates",
            Self::Webhook => "webhook",
            Self::Clocks => "clocks",
            Self::Coverage => "coverage",
            Self::Versions => "versions",
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was looked at.
    pub area: Area,
    /// How bad it is.
    pub level: Level,
    /// What was found, and why it is so.
    pub message: String,
    /// What would do, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What would do, to be copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(area: Area, message: impl Into<String>) -> Self {
        Self { area, level: Level::Ok, message: message.into(), hint: None, command: None }
    }

    /// Works, and somebody should know.
    pub fn warn(area: Area, message: impl Into<String>) -> Self {
        Self { level: Level::Warn, ..Self::ok(area, message) }
    }

    /// Does not work.
    pub fn fail(area: Area, message: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::ok(area, message) }
    }

    /// Adds what would do, in words.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Adds what would do, to be copied.
    #[must_use]
    pub fn command(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }
}
