//! The way of a request for people: a tree, a call a line, and below it where its time went. Pure.

use heddle_proto::tap as wire;
use heddle_report::edges::short;
use heddle_report::tap::{is_failure, proxy_nanos};

use crate::output::Colour;
use crate::tap::render::{clean, notes, status, time};
use crate::trace::tree::Call;

/// The calls of a trace.
pub fn text(trace_id: &str, calls: &[Call], colour: Colour) -> String {
    let count: usize = calls.iter().map(Call::count).sum();
    let mesh = calls.iter().map(Call::all_proxy_nanos).fold(0, u64::saturating_add);
    let total = calls.iter().filter_map(Call::told).map(|told| told.to_head_nanos).max();
    let mut text = format!("trace {}  ", colour.bold(trace_id));
    text.push_str(&format!(
        "{count} {}, {} to the head of the answer, of which the proxies took {}\n",
        if count == 1 { "call" } else { "calls" },
        time(total.unwrap_or_default()),
        time(mesh)
    ));
    for call in calls {
        text.push('\n');
        add(&mut text, call, ("", ""), colour);
    }
    text
}

fn add(text: &mut String, call: &Call, (first, rest): (&str, &str), colour: Colour) {
    let Some(told) = call.told() else { return };
    let status = status(told);
    let status = if is_failure(told) { colour.bad(&status) } else { colour.good(&status) };
    text.push_str(&format!(
        "{first}{}  {} {}  {status}  {}  {}\n",
        colour.bold(&ends(call)),
        clean(&told.method),
        clean(&told.path),
        time(told.to_head_nanos),
        notes(told),
    ));
    let below = if call.calls.is_empty() { "   " } else { "│  " };
    text.push_str(&format!("{rest}{below}{}\n", colour.dim(&spent(call))));
    for (index, inner) in call.calls.iter().enumerate() {
        let is_last = index + 1 == call.calls.len();
        let (branch, further) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        add(text, inner, (&format!("{rest}{branch}"), &format!("{rest}{further}")), colour);
    }
}

/// Who called whom, with the identities that were proven.
fn ends(call: &Call) -> String {
    let of = |told: &wire::Exchange| told.workload.clone().unwrap_or_default();
    let pod = |workload: &wire::Workload| format!("{}/{}", workload.namespace, workload.pod);
    let peer = |told: &wire::Exchange| match short(&told.peer) {
        Some((namespace, account)) => format!("{namespace}/{account}"),
        None => String::new(),
    };
    let caller = match (&call.outbound, &call.inbound) {
        (Some(outbound), _) => pod(&of(outbound)),
        (None, Some(inbound)) => {
            Some(peer(inbound)).filter(|it| !it.is_empty()).unwrap_or("?".into())
        }
        (None, None) => String::new(),
    };
    let called = match (&call.inbound, &call.outbound) {
        (Some(inbound), _) => pod(&of(inbound)),
        (None, Some(outbound)) => {
            let known = [&outbound.backend, &outbound.service, &outbound.authority];
            let known = known.into_iter().find(|text| !text.is_empty());
            known.cloned().unwrap_or_else(|| "?".to_owned())
        }
        (None, None) => String::new(),
    };
    let identity = call.inbound.as_ref().map(&peer).filter(|it| !it.is_empty());
    let as_whom = identity.filter(|_| call.outbound.is_some());
    let as_whom = as_whom.map(|identity| format!(" as {identity}")).unwrap_or_default();
    clean(&format!("{caller}{as_whom} → {called}"))
}

/// Where the time went, as far as both proxies tell.
fn spent(call: &Call) -> String {
    let proxy = |told: &Option<wire::Exchange>| told.as_ref().and_then(proxy_nanos);
    let mut parts = Vec::new();
    let proxies = [("out", proxy(&call.outbound)), ("in", proxy(&call.inbound))];
    let told: Vec<String> = proxies
        .iter()
        .filter_map(|(side, nanos)| nanos.map(|nanos| format!("{side} {}", time(nanos))))
        .collect();
    if !told.is_empty() {
        parts.push(format!("proxies {}", told.join(" + ")));
    }
    let answered = call.inbound.as_ref().and_then(|told| told.answered_in_nanos);
    if let Some(answered) = answered {
        parts.push(format!("application {}", time(answered)));
    }
    let way = call.outbound.as_ref().and_then(|told| told.answered_in_nanos);
    if let Some((way, inbound)) = way.zip(call.inbound.as_ref()) {
        parts.push(format!("network {}", time(way.saturating_sub(inbound.to_head_nanos))));
    }
    match (&call.outbound, &call.inbound) {
        (Some(_), None) => parts.push("no proxy tells of the other end".to_owned()),
        (None, Some(_)) => parts.push("no proxy tells of the caller".to_owned()),
        (Some(_), Some(_)) | (None, None) => {}
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::tree::build;
    use crate::trace::tree::tests::shop;

    #[test]
    fn the_way_of_a_request_is_a_tree() {
        let mut told = shop();
        told[1].status = 503;
        told[1].error = "no_endpoint".into();
        told.remove(0);
        insta::assert_snapshot!(text(
            "4bf92f3577b34da6a3ce929d0e0e4736",
            &build(told),
            Colour::Never
        ));
    }
}
