//! The way of one request: what its proxies told, put together as a tree of calls. Pure.
//!
//! Proxies that gave a request ids of their own are linked by those. Where an application's tracing lies between, or
//! nothing was changed, a call is linked to who was asked there at that time: by the pod that answered, and by the request
//! that the calling pod was busy with.

use std::collections::BTreeSet;

use heddle_proto::tap as wire;

/// One call, as both of its ends saw it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// By the caller's proxy; `None`: it has none, or it did not tell.
    pub outbound: Option<wire::Exchange>,
    /// By the proxy of who was asked.
    pub inbound: Option<wire::Exchange>,
    /// What whoever was asked called for it, in order of time.
    pub calls: Vec<Call>,
}

impl Call {
    /// The better of the two: nearer to who called.
    pub fn told(&self) -> Option<&wire::Exchange> {
        self.outbound.as_ref().or(self.inbound.as_ref())
    }

    /// What the proxies of both ends took, as far as they told.
    pub fn proxy_nanos(&self) -> u64 {
        let ends = [&self.outbound, &self.inbound];
        let took = ends.into_iter().flatten().filter_map(heddle_report::tap::proxy_nanos);
        took.fold(0, u64::saturating_add)
    }

    /// Of this and of all below.
    pub fn all_proxy_nanos(&self) -> u64 {
        let below = self.calls.iter().map(Self::all_proxy_nanos);
        below.fold(self.proxy_nanos(), u64::saturating_add)
    }

    /// How many calls there are, this one too.
    pub fn count(&self) -> usize {
        1 + self.calls.iter().map(Self::count).sum::<usize>()
    }
}

/// Puts together what was told of one trace. What is linked to nothing is a root.
pub fn build(mut told: Vec<wire::Exchange>) -> Vec<Call> {
    told.sort_by_key(|exchange| (exchange.began_unix_nanos, exchange.side));
    let mut parents: Vec<Option<usize>> = vec![None; told.len()];
    let mut taken = BTreeSet::new();
    for index in 0..told.len() {
        let parent = by_ids(&told, index).or_else(|| match told.get(index)?.side() {
            wire::Side::Inbound => by_endpoint(&told, index, &taken),
            wire::Side::Outbound => by_pod(&told, index),
            wire::Side::Unspecified => None,
        });
        let parent = parent.filter(|parent| !is_below(&parents, *parent, index));
        if let (Some(parent), Some(place)) = (parent, parents.get_mut(index)) {
            taken.insert(parent);
            *place = Some(parent);
        }
    }
    let roots = (0..told.len()).filter(|index| parents.get(*index) == Some(&None));
    roots.map(|root| call(&told, &parents, root)).collect()
}

/// Whose part this is a part of.
fn by_ids(told: &[wire::Exchange], index: usize) -> Option<usize> {
    let wanted = &told.get(index)?.trace.as_ref()?.parent;
    if wanted.is_empty() {
        return None;
    }
    let span = |exchange: &wire::Exchange| exchange.trace.as_ref().map(|ids| ids.span.clone());
    told.iter().position(|other| span(other).as_ref() == Some(wanted))
}

/// The call that this pod answered: of several the nearest in time that no other pod answered.
fn by_endpoint(told: &[wire::Exchange], index: usize, taken: &BTreeSet<usize>) -> Option<usize> {
    let inbound = told.get(index)?;
    let pod = inbound.workload.as_ref()?.pod.as_str();
    let calls = told.iter().enumerate().filter(|(other, call)| {
        // What was sent more than once was answered by others before.
        let fits = (call.endpoint_pod == pod && !taken.contains(other)) || call.attempts > 1;
        call.side() == wire::Side::Outbound && call.took_nanos >= inbound.to_head_nanos && fits
    });
    // Clocks of two machines differ by little, and calls of one request rarely overlap.
    let nearest = calls.min_by_key(|(_, call)| {
        (call.endpoint_pod != pod, call.began_unix_nanos.abs_diff(inbound.began_unix_nanos))
    });
    nearest.map(|(index, _)| index)
}

/// The request that the pod was busy with when it called: of several the last.
fn by_pod(told: &[wire::Exchange], index: usize) -> Option<usize> {
    let call = told.get(index)?;
    let at = call.began_unix_nanos;
    let busy = told.iter().enumerate().filter(|(_, request)| {
        request.side() == wire::Side::Inbound
            && is_same_pod(request, call)
            && request.began_unix_nanos <= at
            && at <= request.began_unix_nanos.saturating_add(request.took_nanos)
    });
    busy.max_by_key(|(_, request)| request.began_unix_nanos).map(|(index, _)| index)
}

fn is_same_pod(one: &wire::Exchange, other: &wire::Exchange) -> bool {
    let pod = |exchange: &wire::Exchange| {
        exchange.workload.as_ref().map(|it| (it.namespace.clone(), it.pod.clone()))
    };
    pod(one).is_some() && pod(one) == pod(other)
}

/// Whether `index` is `below` or above it already: what ids say may go round.
fn is_below(parents: &[Option<usize>], mut index: usize, above: usize) -> bool {
    loop {
        if index == above {
            return true;
        }
        match parents.get(index).copied().flatten() {
            Some(parent) => index = parent,
            None => return false,
        }
    }
}

fn call(told: &[wire::Exchange], parents: &[Option<usize>], root: usize) -> Call {
    let children = |of: usize| {
        let all = parents.iter().enumerate();
        all.filter(move |(_, parent)| **parent == Some(of)).map(|(child, _)| child)
    };
    let side = |index: usize| told.get(index).map(wire::Exchange::side);
    let mut found = Call::default();
    let mut below: Vec<usize> = children(root).collect();
    if side(root) == Some(wire::Side::Outbound) {
        found.outbound = told.get(root).cloned();
        let is_inbound = |child: &usize| side(*child) == Some(wire::Side::Inbound);
        let is_last = |child: &usize| {
            let pod = told.get(*child).and_then(|it| it.workload.as_ref()).map(|it| &it.pod);
            is_inbound(child) && pod == told.get(root).map(|call| &call.endpoint_pod)
        };
        let answered = below.iter().position(is_last).or_else(|| below.iter().position(is_inbound));
        if let Some(answered) = answered.map(|place| below.remove(place)) {
            found.inbound = told.get(answered).cloned();
            below.extend(children(answered));
        }
    } else {
        found.inbound = told.get(root).cloned();
    }
    below.sort_unstable();
    found.calls = below.into_iter().map(|child| call(told, parents, child)).collect();
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::tap::tests::exchange;

    /// Seen by a pod, so many milliseconds after the beginning, for so many.
    fn at(mut told: wire::Exchange, began: u64, took: u64) -> wire::Exchange {
        told.began_unix_nanos += began * 1_000_000;
        told.took_nanos = took * 1_000_000;
        told.to_head_nanos = told.took_nanos;
        told.answered_in_nanos = Some(told.took_nanos.saturating_sub(400_000));
        told
    }

    fn sent(pod: &str, to: &str, began: u64, took: u64) -> wire::Exchange {
        let account = to.split('-').next().unwrap_or_default();
        let mut told = exchange(wire::Side::Outbound, pod, account);
        told.endpoint_pod = to.into();
        told.service = format!("shop/{account}:8080");
        told.backend = told.service.clone();
        at(told, began, took)
    }

    fn got(pod: &str, began: u64, took: u64) -> wire::Exchange {
        at(exchange(wire::Side::Inbound, pod, "web"), began, took)
    }

    fn with_ids(mut told: wire::Exchange, span: u8, parent: u8) -> wire::Exchange {
        let id = |number: u8| if number == 0 { vec![] } else { vec![number; 8] };
        let trace = vec![7; 16];
        told.trace = Some(wire::TraceIds { trace, span: id(span), parent: id(parent) });
        told
    }

    /// load → frontend → (api, api → store), as it was told: what is inside first.
    pub(crate) fn shop() -> Vec<wire::Exchange> {
        vec![
            got("store-1", 6, 2),
            sent("api-2", "store-1", 5, 4),
            got("api-1", 2, 2),
            got("api-2", 4, 6),
            sent("frontend-1", "api-1", 1, 3),
            sent("frontend-1", "api-2", 4, 7),
            got("frontend-1", 1, 11),
            sent("load-1", "frontend-1", 0, 13),
        ]
    }

    /// `pod>pod(calls)`, of which one may be missing.
    fn shape(calls: &[Call]) -> String {
        let pod = |told: &Option<wire::Exchange>| {
            told.as_ref().map(|told| told.workload.clone().unwrap().pod).unwrap_or_default()
        };
        let all = calls.iter().map(|call| {
            format!("{}>{}({})", pod(&call.outbound), pod(&call.inbound), shape(&call.calls))
        });
        all.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn hops_are_put_together_by_pod_and_time() {
        let expected = "load-1>frontend-1(frontend-1>api-1() frontend-1>api-2(api-2>store-1()))";
        assert_eq!(shape(&build(shop())), expected);
        let mut turned = shop();
        turned.reverse();
        assert_eq!(shape(&build(turned)), expected);
    }

    #[test]
    fn ids_go_before_pod_and_time() {
        // Two requests at once of the same pods, whose ids are crossed.
        let told = vec![
            with_ids(sent("web-1", "api-1", 0, 10), 1, 0),
            with_ids(sent("web-1", "api-1", 0, 10), 2, 0),
            with_ids(got("api-1", 1, 8), 3, 2),
            with_ids(got("api-1", 2, 8), 4, 1),
            with_ids(sent("api-1", "store-1", 3, 1), 5, 3),
        ];
        let calls = build(told);
        assert_eq!(shape(&calls), "web-1>api-1() web-1>api-1(api-1>())");
        let inner = calls[1].calls[0].outbound.clone().unwrap().trace.unwrap();
        assert_eq!(inner.span, vec![5; 8]);
    }

    #[test]
    fn what_is_missing_is_left_out_and_what_goes_round_ends() {
        for (case, told, expected) in [
            ("nothing", vec![], ""),
            (
                "no caller's proxy",
                vec![got("api-1", 0, 5), sent("api-1", "db-1", 1, 2)],
                ">api-1(api-1>())",
            ),
            ("nobody answered", vec![sent("web-1", "", 0, 5)], "web-1>()"),
            (
                "a call of no request",
                vec![got("api-1", 0, 1), sent("api-1", "db-1", 5, 2)],
                ">api-1() api-1>()",
            ),
            (
                "round",
                vec![with_ids(got("a", 0, 9), 1, 2), with_ids(sent("a", "b", 1, 2), 2, 1)],
                "a>a()",
            ),
            ("itself", vec![with_ids(got("a", 0, 9), 1, 1)], ">a()"),
        ] {
            assert_eq!(shape(&build(told)), expected, "case: {case}");
        }
    }

    #[test]
    fn a_request_that_is_sent_again_is_answered_by_the_last_and_has_the_others_below() {
        let mut again = sent("web-1", "api-2", 0, 5);
        again.attempts = 2;
        let calls = build(vec![got("api-1", 1, 1), got("api-2", 3, 1), again]);
        assert_eq!(shape(&calls), "web-1>api-2(>api-1())");
    }

    #[test]
    fn time_of_proxies_is_summed() {
        let calls = build(shop());
        assert_eq!(calls[0].count(), 4);
        assert_eq!(calls[0].proxy_nanos(), 800_000);
        assert_eq!(calls[0].all_proxy_nanos(), 8 * 400_000);
    }
}
