//! Numbers as the demo shows them. Pure.

use std::time::Duration;

/// A share of 0 to 1; a dash for none. Never rounds up to 100 %: one lost request in a million shows.
pub fn percent(share: Option<f64>) -> String {
    match share {
        None => "-".to_owned(),
        Some(share) if share >= 1.0 => "100 %".to_owned(),
        Some(share) => format!("{:.2} %", (share * 10_000.0).floor() / 100.0),
    }
}

/// A short time; a dash for none.
pub fn latency(time: Option<Duration>) -> String {
    match time {
        None => "-".to_owned(),
        Some(time) if time < Duration::from_secs(1) => {
            format!("{:.1} ms", time.as_secs_f64() * 1e3)
        }
        Some(time) => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// The time left until a moment; both in seconds since 1970.
pub fn time_left(moment: Option<f64>, now: f64) -> String {
    let Some(moment) = moment else { return "-".to_owned() };
    let left = moment - now;
    if left < 0.0 {
        "EXPIRED".to_owned()
    } else if left < 120.0 {
        format!("{left:.0} s")
    } else if left < 7_200.0 {
        format!("{:.0} min", left / 60.0)
    } else {
        format!("{:.0} h", left / 3_600.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        for (share, expected) in [
            (None, "-"),
            (Some(1.0), "100 %"),
            (Some(0.999_999), "99.99 %"),
            (Some(0.5), "50.00 %"),
            (Some(0.0), "0.00 %"),
        ] {
            assert_eq!(percent(share), expected);
        }
        for (micros, expected) in [(250, "0.2 ms"), (12_340, "12.3 ms"), (1_500_000, "1.5 s")] {
            assert_eq!(latency(Some(Duration::from_micros(micros))), expected);
        }
        for (moment, expected) in [
            (Some(1030.0), "30 s"),
            (Some(1600.0), "10 min"),
            (Some(87_400.0), "24 h"),
            (Some(999.0), "EXPIRED"),
            (None, "-"),
        ] {
            assert_eq!(time_left(moment, 1000.0), expected);
        }
    }
}
