//! `meshctl proxy`: what the control planes know of proxies, and what one of them was sent.

pub mod arguments;

use futures_util::FutureExt as _;
use heddle_proto::admin::GetProxyConfigRequest;
use heddle_proto::admin::admin_client::AdminClient;
use heddle_report::proxy::{self as report, ConfigReport, ProxyReport, ResourceReport};
use heddle_runtime::clock;
use tonic::transport::Channel;

use crate::admin;
use crate::failure::Failure;
use crate::identity::render::days_left;
use crate::output::{self, Colour, Output};
use crate::proxy::arguments::{
    ProxyCommand, ProxyConfigArguments, ProxyLook, ProxyStatusArguments,
};
use crate::repeat::{self, Shown};
use crate::run::Ending;
use crate::table::{self, Cell};
use crate::target::{self, Target};

/// Shows them, or one.
pub async fn run(command: ProxyCommand, colour: Colour) -> Result<Ending, Failure> {
    match command {
        ProxyCommand::Status(options) => status(options, colour).await,
        ProxyCommand::Config(options) => config(options, colour).await,
    }
}

async fn status(options: ProxyStatusArguments, colour: Colour) -> Result<Ending, Failure> {
    let target = options.look.target.find().await?;
    let watch = options.look.watch;
    repeat::show(watch, async || status_shown(&options, &target, colour).await).await
}

async fn status_shown(
    options: &ProxyStatusArguments,
    target: &Target,
    colour: Colour,
) -> Result<Shown, Failure> {
    let ProxyStatusArguments { pod, look } = options;
    let mut proxies = report::proxies(target::heard(target.ask_all(admin::get_status).await?));
    match pod {
        Some(pod) => proxies = vec![one(proxies, pod, look, target)?],
        None => proxies.retain(|proxy| {
            look.namespace.as_ref().is_none_or(|wanted| *wanted == proxy.namespace)
        }),
    }
    let now = seconds();
    let text = match look.output {
        Output::Json => output::json(&proxies, look.watch.watch)?,
        Output::Yaml => output::yaml(&proxies, look.watch.watch)?,
        Output::Name => lines(proxies.iter().map(ProxyReport::title)),
        Output::Table | Output::Wide if proxies.is_empty() => String::new(),
        Output::Table | Output::Wide => status_table(&proxies, now, look, colour),
    };
    let hint = proxies.is_empty().then(|| no_proxies(look.namespace.as_deref()));
    let good = proxies.iter().all(|proxy| proxy.is_good(now));
    Ok(Shown { text, hint, ending: if good { Ending::Good } else { Ending::CheckFailed } })
}

/// Why nothing is shown.
fn no_proxies(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => {
            format!(
                "no proxy of a pod in namespace {namespace} has connected; without -n all are listed"
            )
        }
        None => "no proxy has connected so far: `meshctl check` looks at pods that should have one"
            .to_owned(),
    }
}

async fn config(options: ProxyConfigArguments, colour: Colour) -> Result<Ending, Failure> {
    let target = options.look.target.find().await?;
    let watch = options.look.watch;
    repeat::show(watch, async || config_shown(&options, &target, colour).await).await
}

async fn config_shown(
    options: &ProxyConfigArguments,
    target: &Target,
    colour: Colour,
) -> Result<Shown, Failure> {
    let ProxyConfigArguments { pod, look } = options;
    let proxies = report::proxies(target::heard(target.ask_all(admin::get_status).await?));
    let proxy = one(proxies, pod, look, target)?;
    let uid = proxy.pod_uid.clone();
    let asked = target.ask_at(&proxy.control_plane, move |mut client: AdminClient<Channel>| {
        let request = GetProxyConfigRequest { pod_uid: uid.clone() };
        async move { Ok(client.get_proxy_config(request).await?.into_inner()) }.boxed()
    });
    let resources = asked.await?.resources.into_iter().map(ResourceReport::from).collect();
    let ProxyReport { namespace, name, pod_uid, .. } = proxy;
    let report = ConfigReport { namespace, name, pod_uid, resources };
    let text = match look.output {
        Output::Json => output::json(&report, look.watch.watch)?,
        Output::Yaml => output::yaml(&report, look.watch.watch)?,
        Output::Name => lines(report.resources.iter().map(|resource| resource.resource.clone())),
        Output::Table | Output::Wide if report.resources.is_empty() => String::new(),
        Output::Table | Output::Wide => config_table(&report, look, colour),
    };
    let hint = report.resources.is_empty().then(|| {
        "it asked for nothing so far: a proxy asks when its workload calls or is called".to_owned()
    });
    let good = report.resources.iter().all(|resource| resource.answer != "refused");
    Ok(Shown { text, hint, ending: if good { Ending::Good } else { Ending::CheckFailed } })
}

/// The proxy of the pod that is meant. Of several that had the name, the one that is connected.
fn one(
    proxies: Vec<ProxyReport>,
    pod: &str,
    look: &ProxyLook,
    target: &Target,
) -> Result<ProxyReport, Failure> {
    let namespace = look.namespace.as_deref().unwrap_or_else(|| target.default_namespace());
    let (namespace, name) = report::pod_named(pod, namespace);
    let known: Vec<String> = proxies.iter().map(ProxyReport::title).collect();
    let meant = proxies.into_iter().filter(|one| one.namespace == namespace && one.name == name);
    meant.max_by_key(|one| one.connected).ok_or_else(|| {
        let remedy = match known.as_slice() {
            [] => "see whether its pod has a proxy; no proxy has connected so far".to_owned(),
            known if known.len() <= NAMES_SHOWN => format!("name one of {}", known.join(", ")),
            known => format!("`meshctl proxy status` lists the {} that have", known.len()),
        };
        Failure::new(format!("no proxy of a pod {namespace}/{name} has connected"), remedy)
    })
}

fn status_table(proxies: &[ProxyReport], now: i64, look: &ProxyLook, colour: Colour) -> String {
    let wide = look.output == Output::Wide;
    let mut header =
        vec!["PROXY", "STATE", "VERSION", "CONFIG", "OUTSTANDING", "REFUSED", "CERTIFICATE"];
    if wide {
        header.extend(["RESOURCES", "ISSUER", "CONTROL PLANE", "UID"]);
    }
    let rows: Vec<Vec<Cell>> = proxies
        .iter()
        .map(|proxy| {
            let state =
                if proxy.connected { Cell::good("connected") } else { Cell::bad("disconnected") };
            let refused = proxy.refused.to_string();
            let mut row = vec![
                Cell::plain(proxy.title()),
                state,
                Cell::plain(&proxy.proxy_version),
                Cell::plain(proxy.acknowledged_version.to_string()),
                Cell::plain(proxy.pending_updates.to_string()),
                if proxy.refused == 0 { Cell::plain(refused) } else { Cell::bad(refused) },
                proxy
                    .certificate_not_after
                    .map_or_else(|| Cell::plain("not told"), |end| days_left(end, now)),
            ];
            if wide {
                let issuer = match proxy.current_issuer {
                    None => "not told",
                    Some(true) => "present",
                    Some(false) => "earlier",
                };
                row.extend([
                    Cell::plain(proxy.resources.to_string()),
                    Cell::plain(issuer),
                    Cell::plain(&proxy.control_plane),
                    Cell::plain(&proxy.pod_uid),
                ]);
            }
            row
        })
        .collect();
    table::headed(table::render(&header, &rows, colour), look.no_headers)
}

fn config_table(report: &ConfigReport, look: &ProxyLook, colour: Colour) -> String {
    let rows: Vec<Vec<Cell>> = report
        .resources
        .iter()
        .map(|resource| {
            let answer = match resource.answer {
                "acknowledged" => Cell::good("acknowledged"),
                "refused" => Cell::bad(format!("refused: {}", resource.reason)),
                other => Cell::plain(other),
            };
            vec![
                Cell::plain(&resource.resource),
                Cell::plain(resource.version.to_string()),
                Cell::plain(resource.origins.join(", ")),
                answer,
            ]
        })
        .collect();
    let table = table::render(&["RESOURCE", "VERSION", "FROM", "ANSWER"], &rows, colour);
    table::headed(table, look.no_headers)
}

fn lines(names: impl Iterator<Item = String>) -> String {
    names.map(|name| format!("{name}\n")).collect()
}

fn seconds() -> i64 {
    let since = clock::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// More names than that help nobody.
const NAMES_SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::arguments::{ClusterArguments, DEFAULT_MESH_NAMESPACE};
    use crate::repeat::Watch;
    use crate::target::TargetArguments;

    fn look(output: Output, no_headers: bool) -> ProxyLook {
        let mesh_namespace = DEFAULT_MESH_NAMESPACE.to_owned();
        let cluster = ClusterArguments { kubeconfig: None, context: None, mesh_namespace };
        let target = TargetArguments { name: None, admin_socket: None, cluster };
        let interval = "1s".parse().unwrap();
        let watch = Watch { watch: false, interval };
        ProxyLook { namespace: None, output, no_headers, watch, target }
    }

    fn proxy(name: &str) -> ProxyReport {
        ProxyReport {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            pod_uid: format!("uid-{name}"),
            proxy_version: "0.1.0".to_owned(),
            connected: true,
            control_plane: "cp-1".to_owned(),
            resources: 4,
            acknowledged_version: 12,
            pending_updates: 0,
            refused: 0,
            certificate_not_after: Some(80_000),
            current_issuer: Some(true),
        }
    }

    #[test]
    fn proxies_read_at_a_glance() {
        let away = ProxyReport {
            connected: false,
            refused: 1,
            certificate_not_after: None,
            current_issuer: None,
            ..proxy("away")
        };
        let all = [away, proxy("api")];
        let shown = |output, no_headers| {
            status_table(&all, 1_000, &look(output, no_headers), Colour::Never)
        };
        insta::assert_snapshot!(shown(Output::Table, false), @"
        PROXY      STATE         VERSION  CONFIG  OUTSTANDING  REFUSED  CERTIFICATE
        shop/away  disconnected  0.1.0    12      0            1        not told
        shop/api   connected     0.1.0    12      0            0        21 h
        ");
        insta::assert_snapshot!(shown(Output::Wide, true), @"
        shop/away  disconnected  0.1.0    12      0            1        not told     4          not told  cp-1           uid-away
        shop/api   connected     0.1.0    12      0            0        21 h         4          present   cp-1           uid-api
        ");
    }

    #[test]
    fn a_pod_without_a_proxy_is_told_with_those_that_have_one() {
        let target = Target::Local("/s".into());
        let named = |pod: &str| one(vec![proxy("api")], pod, &look(Output::Table, false), &target);
        assert_eq!(named("shop/api").unwrap(), proxy("api"));
        let failure = named("api").unwrap_err().to_string();
        assert!(failure.contains("default/api has connected"), "{failure}");
        assert!(failure.contains("name one of shop/api"), "{failure}");
    }
}
