//! Trust anchors, issuer and rotation for people. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use heddle_report::identity::{Certificate, IdentityReport, ProxyCounts, Rotation};
use heddle_runtime::duration;

use crate::output::Page;
use crate::table::{self, Cell};

/// The whole text: what needs somebody comes last.
pub fn text(report: &IdentityReport, now: i64, page: Page) -> String {
    let colour = page.colour;
    let mut text = String::new();
    let lifetime = duration::Text(Duration::from_secs(report.leaf_lifetime_seconds));
    let _ = writeln!(
        text,
        "{}  {}, kept in {}; certificates of {lifetime}: {} issued, {} refused\n",
        colour.bold("trust domain"),
        report.trust_domain,
        report.kept_in,
        report.certificates_issued,
        report.certificates_refused,
    );
    text.push_str(&authorities(report, now, page));
    let _ = writeln!(text, "\n{}       {}", colour.bold("proxies"), counts(report.proxies));
    let rotation = match (&report.rotation, &report.last_rotation) {
        (Some(rotation), _) => self::rotation(rotation, now),
        (None, Some(last)) => {
            let took = duration_text(last.ended - last.started);
            format!(
                "none; the last one, of the {}, ended {} ago and took {took}",
                last.kind,
                duration_text(now - last.ended)
            )
        }
        (None, None) => "none so far".to_owned(),
    };
    let _ = writeln!(text, "{}      {rotation}", colour.bold("rotation"));
    if report.rotation.as_ref().is_some_and(|rotation| is_late(rotation, now)) {
        text.push_str(
            "              a proxy that will not acknowledge is left out by `meshctl identity rotate --without \
             NAMESPACE/POD`\n",
        );
    }
    for lacking in &report.lacking_anchors {
        let _ = writeln!(text, "{} cannot be kept in {lacking}", colour.bold("trust anchors"));
    }
    if page.wide || report.control_planes.iter().any(|one| !one.problem.is_empty()) {
        text.push_str(&control_planes(report, page));
    }
    text
}

/// One line: which step, and what it waits for.
pub fn rotation(rotation: &Rotation, now: i64) -> String {
    let since = duration_text(now - rotation.since);
    let waiting = match rotation.waiting_for.as_str() {
        "" => String::new(),
        waiting => format!("; waits for {waiting}"),
    };
    let without = match rotation.without.as_slice() {
        [] => String::new(),
        without => format!("; not waited for: {}", without.join(", ")),
    };
    format!("{}, since {since}{waiting}{without}", passed(rotation.kind, rotation.step))
}

/// Whether somebody may have to do something about it: proxies acknowledge within seconds.
fn is_late(rotation: &Rotation, now: i64) -> bool {
    rotation.step == "announced" && now - rotation.since >= LATE_SECONDS
}

/// One line: a step that was taken.
pub fn passed(kind: &str, step: &str) -> String {
    let step = match (kind, step) {
        (_, "announced") => "1 of 3: the new trust anchor is announced",
        ("root", "switched") => "2 of 3: the issuer is switched to the new trust anchor",
        ("root", "turning-over") => "3 of 3: certificates below the old trust anchor run out",
        (_, "switched") => "1 of 2: the issuer is switched",
        (_, "turning-over") => "2 of 2: certificates of the old issuer run out",
        (_, other) => other,
    };
    format!("of the {kind}, step {step}")
}

fn authorities(report: &IdentityReport, now: i64, page: Page) -> String {
    let shown = |certificate: &Certificate| match page.wide {
        false => certificate.fingerprint.chars().take(FINGERPRINT_DIGITS).collect(),
        true => certificate.fingerprint.clone(),
    };
    let row = |what: &str, certificate: &Certificate, key: &str| {
        vec![
            Cell::plain(what),
            Cell::plain(shown(certificate)),
            days_left(certificate.not_after, now),
            Cell::plain(key),
            Cell::plain(&certificate.subject),
        ]
    };
    let mut rows: Vec<_> = report
        .anchors
        .iter()
        .map(|anchor| {
            let key = if anchor.has_key { "here" } else { "elsewhere" };
            row(&format!("anchor, {}", anchor.role), &anchor.certificate, key)
        })
        .collect();
    rows.push(row("issuer", &report.issuer, "here"));
    table::of_page(&["AUTHORITY", "FINGERPRINT", "LEFT", "KEY", "SUBJECT"], &rows, page)
}

fn counts(counts: ProxyCounts) -> String {
    let ProxyCounts { connected, current_bundle, current_issuer, other_issuer, unknown } = counts;
    let mut text = format!(
        "{connected} connected; {current_bundle} hold the present trust bundle; certificates: \
         {current_issuer} of the present issuer, {other_issuer} of an earlier one"
    );
    if unknown > 0 {
        let _ = write!(text, "; {unknown} told nothing yet");
    }
    text
}

fn control_planes(report: &IdentityReport, page: Page) -> String {
    let rows: Vec<_> = report
        .control_planes
        .iter()
        .map(|one| {
            let state =
                if one.problem.is_empty() { Cell::good("ok") } else { Cell::bad(&one.problem) };
            let name = if one.pod.is_empty() { "local" } else { &one.pod };
            let issuer: String = one.issuer_fingerprint.chars().take(FINGERPRINT_DIGITS).collect();
            let leads = if one.leads { "leads" } else { "" };
            vec![Cell::plain(name), Cell::plain(leads), Cell::plain(issuer), state]
        })
        .collect();
    format!("\n{}", table::of_page(&["CONTROL PLANE", "", "ISSUER", "STATE"], &rows, page))
}

/// How long a certificate is good for, in the unit that matters.
pub fn days_left(not_after: i64, now: i64) -> Cell {
    let left = not_after - now;
    if left <= 0 {
        return Cell::bad("EXPIRED");
    }
    Cell::plain(duration_text(left))
}

/// How long that is, in the greatest unit that fits.
pub fn duration_text(seconds: i64) -> String {
    match seconds {
        ..0 => "0 s".to_owned(),
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        172_800.. => format!("{} days", seconds / 86_400),
    }
}

/// Longer than proxies take that are a moment away.
const LATE_SECONDS: i64 = 120;
/// Enough to tell a mesh's authorities apart.
const FINGERPRINT_DIGITS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_proto::admin;

    fn certificate(fingerprint: &str, not_after: i64) -> admin::Certificate {
        admin::Certificate {
            fingerprint: fingerprint.repeat(32),
            subject: format!("O=Heddle, CN=Heddle {fingerprint}"),
            not_before: 0,
            not_after,
        }
    }

    fn status() -> admin::IdentityStatus {
        use admin::anchor::Role;
        let proxy = |uid: &str, current: Option<bool>| admin::Proxy {
            pod_uid: uid.to_owned(),
            connected: true,
            identity: current.map(|current| admin::HeldIdentity {
                current_bundle: true,
                current_issuer: current,
                not_after: 5_000,
            }),
            ..Default::default()
        };
        let anchor = |role: Role, name: &str, has_key| admin::Anchor {
            role: role.into(),
            certificate: Some(certificate(name, 3650 * 86_400)),
            has_key,
        };
        admin::IdentityStatus {
            trust_domain: "cluster.local".to_owned(),
            anchors: vec![anchor(Role::Current, "ab", true), anchor(Role::Other, "cd", false)],
            issuer: Some(certificate("ef", 100 * 86_400)),
            leaf_lifetime_seconds: 86_400,
            rotation: Some(admin::Rotation {
                kind: admin::RotationKind::Root.into(),
                step: admin::rotation::Step::TurningOver.into(),
                started: 500,
                since: 600,
                waiting_for: "86,000 s to pass".to_owned(),
                without: Vec::new(),
            }),
            proxies: vec![proxy("a", Some(true)), proxy("b", Some(false)), proxy("c", None)],
            certificates_issued: 7,
            kept_in: "Secret heddle-system/heddle-authority".to_owned(),
            ..Default::default()
        }
    }

    fn report() -> IdentityReport {
        let leader = admin::IdentityStatus { leads: true, ..status() };
        let other = admin::IdentityStatus {
            problem: "the Secret is gone".to_owned(),
            proxies: Vec::new(),
            rotation: None,
            ..status()
        };
        IdentityReport::new(vec![("cp-1".to_owned(), other), ("cp-2".to_owned(), leader)])
    }

    #[test]
    fn a_rotation_reads_at_a_glance() {
        insta::assert_snapshot!(text(&report(), 1_000, Page::USUAL));
    }

    #[test]
    fn a_rotation_that_is_held_up_says_what_can_be_done() {
        let announced = |without: Vec<String>| {
            let rotation = admin::Rotation {
                step: admin::rotation::Step::Announced.into(),
                waiting_for: "1 of 3 proxies to acknowledge the trust anchors: shop/api".to_owned(),
                without,
                ..status().rotation.unwrap()
            };
            let lacking_anchors = vec!["bank: the ConfigMap is immutable".to_owned()];
            let said =
                admin::IdentityStatus { rotation: Some(rotation), lacking_anchors, ..status() };
            let report = IdentityReport::new(vec![("cp".to_owned(), said)]);
            let text = text(&report, 1_000, Page::USUAL);
            assert!(report.is_troubled(1_000));
            let lines = text.lines().skip_while(|line| !line.starts_with("rotation "));
            lines.collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!(announced(Vec::new()), @"
        rotation      of the root, step 1 of 3: the new trust anchor is announced, since 6 min; waits for 1 of 3 proxies to acknowledge the trust anchors: shop/api
                      a proxy that will not acknowledge is left out by `meshctl identity rotate --without NAMESPACE/POD`
        trust anchors cannot be kept in bank: the ConfigMap is immutable
        ");
        insta::assert_snapshot!(announced(vec!["shop/api".to_owned()]), @"
        rotation      of the root, step 1 of 3: the new trust anchor is announced, since 6 min; waits for 1 of 3 proxies to acknowledge the trust anchors: shop/api; not waited for: shop/api
                      a proxy that will not acknowledge is left out by `meshctl identity rotate --without NAMESPACE/POD`
        trust anchors cannot be kept in bank: the ConfigMap is immutable
        ");
    }

    #[test]
    fn identity_for_machines_has_stable_fields() {
        insta::assert_json_snapshot!(report());
    }

    #[test]
    fn what_expires_soon_or_is_not_used_is_trouble() {
        let good = || vec![("cp".to_owned(), admin::IdentityStatus { rotation: None, ..status() })];
        assert!(!IdentityReport::new(good()).is_troubled(1_000));
        assert!(IdentityReport::new(good()).is_troubled(71 * 86_400));
        assert!(report().is_troubled(1_000));
    }
}
