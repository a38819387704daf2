//! Where telemetry goes, by OpenTelemetry's own variables, and what becomes of headers that a Secret was to have.

use heddle_telemetry::settings::TelemetrySettings;
use heddle_telemetry::settings::variables::variables;

use crate::config::{HEADERS_SECRET, Reader};

/// Headers that come from a Secret and are none are left out, so that
/// [`Config::missing_headers`](crate::config::Config::missing_headers) tells of them: whoever wrote the Secret is not to keep an
/// application from starting.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<TelemetrySettings> {
    let read = |leave_out: Option<&str>| {
        TelemetrySettings::read(&|name| {
            let variable = variables().find(|variable| variable.name == name)?;
            let text = reader.matches.get_one::<String>(variable.flag)?;
            (leave_out != Some(name)).then(|| text.clone())
        })
    };
    let is_of_secret = |problem: &String| problem.starts_with(&format!("{HEADERS}="));
    let read = match read(None) {
        Err(problems)
            if reader.text(&HEADERS_SECRET).is_some() && problems.iter().all(is_of_secret) =>
        {
            read(Some(HEADERS))
        }
        read => read,
    };
    read.map_err(|problems| reader.problems.extend(problems)).ok()
}

/// What the injector has the Secret's key in.
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
