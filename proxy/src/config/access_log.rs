//! The settings of the access log, which the workload's annotations go before.

use std::fmt;

use heddle_model::access_log::{AccessLog, AccessLogFormat, AccessLogMode};

use crate::config::{Reader, Setting};

/// All of them.
pub(super) const SETTINGS: [&Setting; 2] = [&ACCESS_LOG, &ACCESS_LOG_FORMAT];

/// What is set, or the default.
pub(super) fn read(reader: &mut Reader<'_>) -> AccessLog {
    let mode = reader.optional(&ACCESS_LOG, AccessLogMode::WANT, |text| text.parse().ok());
    let format =
        reader.optional(&ACCESS_LOG_FORMAT, AccessLogFormat::WANT, |text| text.parse().ok());
    AccessLog { mode: mode.unwrap_or_default(), format: format.unwrap_or_default() }
}

/// What is not as it is by default, for the log.
pub(super) fn show(access_log: AccessLog, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if access_log == AccessLog::default() {
        return Ok(());
    }
    let AccessLog { mode, format } = access_log;
    write!(f, " {}={mode} {}={format}", ACCESS_LOG.flag, ACCESS_LOG_FORMAT.flag)
}

const ACCESS_LOG: Setting = Setting {
    flag: "access-log",
    variable: "HEDDLE_ACCESS_LOG",
    value_name: "WHICH",
    default: Some("off"),
    help: "Which requests and connections are written to standard output: off, errors or all. \
           The pod's annotation heddle.dev/access-log goes before it",
};
const ACCESS_LOG_FORMAT: Setting = Setting {
    flag: "access-log-format",
    variable: "HEDDLE_ACCESS_LOG_FORMAT",
    value_name: "FORMAT",
    default: Some("text"),
    help: "How they are written: text or json. The pod's annotation heddle.dev/access-log-format \
           goes before it",
};
