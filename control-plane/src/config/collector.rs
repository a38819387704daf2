//! The collector that what proxies export goes on to: OpenTelemetry's variables, as far as they make sense for that, as
//! flags and from the environment.

use std::collections::BTreeMap;
use std::fmt;

use clap::{Arg, ArgMatches, Command};
use heddle_telemetry::settings::variables::{Variable, variables};
use heddle_telemetry::settings::{CollectorSettings, TelemetrySettings};

/// The variables as typed, by name. Some are secret: it prints none.
#[derive(Clone, Default)]
pub struct CollectorTyped(BTreeMap<&'static str, String>);

/// A collector, and what it is told of all that is passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardSettings {
    /// Where it is, and how it is spoken to.
    pub collector: CollectorSettings,
    /// Added to resources that do not say it themselves, such as the cluster's name.
    pub resource: Vec<(String, String)>,
}

impl ForwardSettings {
    /// `None`: nothing is passed on. Fails with one sentence for each variable that is wrong.
    pub fn read(typed: &CollectorTyped) -> Result<Option<Self>, Vec<String>> {
        let settings = TelemetrySettings::read(&|name| typed.0.get(name).cloned())?;
        let TelemetrySettings { is_enabled, metrics, resource, .. } = settings;
        let collector = metrics.filter(|_| is_enabled);
        Ok(collector.map(|collector| Self { collector, resource }))
    }
}

/// Those that say where metrics go. Others speak of the process that measures: here, those are the proxies.
fn used() -> impl Iterator<Item = Variable> {
    variables().filter(|variable| {
        let name = variable.name;
        let of_export = name.strip_prefix("OTEL_EXPORTER_OTLP_");
        match of_export {
            Some(rest) => !OTHER_SIGNALS.iter().any(|signal| rest.starts_with(signal)),
            None => OTHERS.contains(&name),
        }
    })
}

impl clap::FromArgMatches for CollectorTyped {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut typed = Self::default();
        typed.update_from_arg_matches(matches)?;
        Ok(typed)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for variable in used() {
            if let Some(text) = matches.get_one::<String>(variable.flag) {
                self.0.insert(variable.name, text.clone());
            }
        }
        Ok(())
    }
}

impl clap::Args for CollectorTyped {
    fn augment_args(command: Command) -> Command {
        used().fold(command, |command, variable| {
            let argument = Arg::new(variable.flag)
                .long(variable.flag)
                .env(variable.name)
                .hide_env_values(true)
                .value_name(variable.value_name)
                .help_heading("OpenTelemetry, for the metrics of proxies")
                .help(variable.help);
            command.arg(argument)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl fmt::Debug for CollectorTyped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What is passed on is metrics.
const OTHER_SIGNALS: [&str; 2] = ["TRACES_", "LOGS_"];
const OTHERS: [&str; 3] =
    ["OTEL_SDK_DISABLED", "OTEL_METRICS_EXPORTER", "OTEL_RESOURCE_ATTRIBUTES"];

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(pairs: &[(&'static str, &str)]) -> CollectorTyped {
        CollectorTyped(pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
    }

    #[test]
    fn metrics_are_passed_on_where_a_collector_is_named() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        for (case, pairs, expected) in [
            ("nothing", &[][..], None),
            ("a collector", &[endpoint], Some("http://collector:4318/v1/metrics")),
            ("disabled", &[endpoint, ("OTEL_SDK_DISABLED", "true")], None),
            ("not metrics", &[endpoint, ("OTEL_METRICS_EXPORTER", "none")], None),
        ] {
            let settings = ForwardSettings::read(&typed(pairs)).unwrap();
            let found = settings.map(|settings| settings.collector.endpoint.to_string());
            assert_eq!(found.as_deref(), expected, "case: {case}");
        }
    }

    #[test]
    fn only_variables_that_do_something_are_taken() {
        let names: Vec<&str> = used().map(|variable| variable.name).collect();
        for (name, is_used) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", true),
            ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", true),
            ("OTEL_RESOURCE_ATTRIBUTES", true),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", false),
            ("OTEL_SERVICE_NAME", false),
            ("OTEL_METRIC_EXPORT_INTERVAL", false),
        ] {
            assert_eq!(names.contains(&name), is_used, "case: {name}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_and_what_may_be_secret_is_not() {
        let typed = typed(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
        ]);
        let problems = ForwardSettings::read(&typed).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(!format!("{problems:?} {typed:?}").contains("hunter2"), "{problems:?} {typed:?}");
    }
}
