//! Which variables there are, and how each is spelled as a flag. What they mean is read in settings.rs.

/// One of the variables, and how it is spelled as a flag.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// As the specification has it.
    pub name: &'static str,
    /// The same as a flag.
    pub flag: &'static str,
    /// What it takes, in a word.
    pub value_name: &'static str,
    /// What it is for.
    pub help: &'static str,
}

/// All variables.
pub fn variables() -> impl Iterator<Item = Variable> {
    let collectors = [FOR_ALL, FOR_METRICS, FOR_TRACES, FOR_LOGS].into_iter().flatten();
    let batches = [SPANS, LOG_RECORDS].into_iter().flatten();
    collectors.chain(OTHERS).chain(batches)
}

/// Those with one beginning.
macro_rules! family {
    ($name:literal, $flag:literal, $of:literal: $($own:literal $own_flag:literal $value:literal $help:literal;)*) => {
        [$(Variable {
            name: concat!($name, $own),
            flag: concat!($flag, $own_flag),
            value_name: $value,
            help: concat!($help, $of),
        }),*]
    };
}

/// Those that say how a collector is reached: for all signals, and for one of them.
macro_rules! exporting {
    ($name:literal, $flag:literal, $of:literal) => {
        family!($name, $flag, $of:
            "ENDPOINT" "endpoint" "URL" "A collector that is told, too, besides the control plane";
            "PROTOCOL" "protocol" "PROTOCOL" "grpc or http/protobuf, which is the default";
            "HEADERS" "headers" "PAIRS" "Headers for the collector, NAME=VALUE,NAME=VALUE";
            "TIMEOUT" "timeout" "MILLISECONDS" "How long one export may take";
            "COMPRESSION" "compression" "COMPRESSION" "none (others are not supported)";
            "CERTIFICATE" "certificate" "FILE" "Authorities of the collector's certificate, PEM";
            "CLIENT_CERTIFICATE" "client-certificate" "FILE" "The certificate that the collector is shown, PEM";
            "CLIENT_KEY" "client-key" "FILE" "The key of that certificate, PEM";
        )
    };
}

/// Those that say how records wait and go.
macro_rules! batching {
    ($name:literal, $flag:literal, $of:literal) => {
        family!($name, $flag, $of:
            "SCHEDULE_DELAY" "schedule-delay" "MILLISECONDS" "How long the first of a batch waits for others";
            "EXPORT_TIMEOUT" "export-timeout" "MILLISECONDS" "How long a batch is tried; 30000 by default";
            "MAX_QUEUE_SIZE" "max-queue-size" "NUMBER" "How many may wait; more are dropped, and counted; 2048 by default";
            "MAX_EXPORT_BATCH_SIZE" "max-export-batch-size" "NUMBER" "How many make a batch; 512 by default";
        )
    };
}

const FOR_ALL: [Variable; 8] = exporting!("OTEL_EXPORTER_OTLP_", "otel-exporter-otlp-", "");
const FOR_METRICS: [Variable; 8] =
    exporting!("OTEL_EXPORTER_OTLP_METRICS_", "otel-exporter-otlp-metrics-", "; for metrics");
const FOR_TRACES: [Variable; 8] =
    exporting!("OTEL_EXPORTER_OTLP_TRACES_", "otel-exporter-otlp-traces-", "; for traces");
const FOR_LOGS: [Variable; 8] =
    exporting!("OTEL_EXPORTER_OTLP_LOGS_", "otel-exporter-otlp-logs-", "; for logs");
const SPANS: [Variable; 4] = batching!("OTEL_BSP_", "otel-bsp-", "; of spans");
const LOG_RECORDS: [Variable; 4] = batching!("OTEL_BLRP_", "otel-blrp-", "; of log records");
const OTHERS: [Variable; 9] = family!("OTEL_", "otel-", "":
    "SDK_DISABLED" "sdk-disabled" "BOOLEAN" "true: nothing is exported, not even to the control plane";
    "METRICS_EXPORTER" "metrics-exporter" "EXPORTER" "otlp, or none: no metrics to the collector";
    "TRACES_EXPORTER" "traces-exporter" "EXPORTER" "otlp, or none: no traces";
    "LOGS_EXPORTER" "logs-exporter" "EXPORTER" "otlp, or none: no logs to the collector";
    "METRIC_EXPORT_INTERVAL" "metric-export-interval" "MILLISECONDS" "How often metrics go to the collector; 10000 by default";
    "TRACES_SAMPLER" "traces-sampler" "SAMPLER" "Which requests are traced, if there is a collector for traces: parentbased_always_off by default";
    "TRACES_SAMPLER_ARG" "traces-sampler-arg" "RATIO" "The ratio of parentbased_traceidratio and traceidratio, from 0 to 1";
    "SERVICE_NAME" "service-name" "NAME" "The name under which telemetry is sent, instead of the workload's";
    "RESOURCE_ATTRIBUTES" "resource-attributes" "PAIRS" "What else telemetry says of the workload: KEY=VALUE,KEY=VALUE";
);
