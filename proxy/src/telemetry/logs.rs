//! The access log's way to a collector, if one is named for logs. What a record says is in access_log/otlp.rs.

use std::sync::Arc;

use heddle_runtime::tasks::Tasks;
use heddle_telemetry::batch::record::Teller;
use heddle_telemetry::batch::{Queue, Tell, queue};
use heddle_telemetry::collector::{Collector, CollectorError};
use heddle_telemetry::settings::Signal;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::LogRecord;

use crate::telemetry::ExportSettings;
use crate::telemetry::metrics::ExportMetrics;
use crate::telemetry::resource::Resource;

/// Begins to send what is put into the queue; `None`: no collector is named for logs.
///
/// Fails if there can be no way to the collector.
pub fn start(
    settings: &ExportSettings,
    resource: &Resource,
    exports: &ExportMetrics,
    tasks: &Tasks,
) -> Result<Option<Queue<LogRecord>>, CollectorError> {
    let telemetry = &settings.telemetry;
    let Some(collector) = telemetry.logs.clone().filter(|_| telemetry.is_enabled) else {
        return Ok(None);
    };
    let collector = Collector::new(collector, settings.mark)?;
    let counted = exports.clone();
    let tell: Tell = Arc::new(move |told| counted.count_records(Signal::Logs, told));
    let (queue, batches) = queue(telemetry.log_records, tell);
    let resource = resource.clone();
    let teller = move || Teller { resource: resource.message(), scope: scope() };
    tasks.spawn("telemetry.logs", batches.run(collector, teller, tasks.drain().clone()));
    Ok(Some(queue))
}

/// Who says so.
fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "heddle.access_log".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}
