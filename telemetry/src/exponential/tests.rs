//! Properties of exponential histograms: how wrong a quantile is, and that no value is lost.

use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets as Message;
use proptest::prelude::*;

use super::*;

fn of(scale: i32, values: &[f64]) -> Exponential {
    let mut made = Exponential::new(scale);
    for value in values {
        made.record(*value);
    }
    made
}

/// From a microsecond to hours, or bytes to gigabytes.
fn values() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec((-20.0..30.0f64).prop_map(f64::exp2), 1..200)
}

#[test]
fn values_are_in_the_range_whose_end_they_are() {
    for (case, value, scale, index) in [
        ("one", 1.0, 0, -1),
        ("above one", 1.5, 0, 0),
        ("two", 2.0, 0, 0),
        ("two, finer", 2.0, 3, 7),
        ("a half", 0.5, 0, -2),
        ("four, coarser", 4.0, -1, 0),
        ("above four, coarser", 4.1, -1, 1),
        ("a quarter, coarser", 0.25, -1, -2),
        ("an eighth, coarser", 0.125, -1, -2),
        ("1000 at scale 2", 1000.0, 2, 39),
    ] {
        assert_eq!(index_of(value, scale), index, "case: {case}");
    }
}

#[test]
fn what_is_no_amount_is_left_out() {
    let made = of(4, &[-1.0, f64::NAN, f64::INFINITY, 0.0, 3.0]);
    assert_eq!((made.count(), made.zero_count(), made.sum()), (2, 1, 3.0));
}

#[test]
fn without_values_there_is_no_quantile() {
    assert_eq!(Exponential::new(4).quantile(0.5), None);
    assert_eq!(of(4, &[0.0]).quantile(0.5), Some(0.0));
    assert_eq!(of(4, &[1.0]).quantile(f64::NAN), None);
}

#[test]
fn counts_up_to_an_end_of_a_range_are_exact() {
    let made = of(3, &[0.0, 0.2, 0.25, 0.3, 1.0, 1.5, 8.0]);
    for (bound, expected) in
        [(-1.0, 0), (0.0, 1), (0.25, 3), (0.5, 4), (1.0, 5), (4.0, 6), (8.0, 7)]
    {
        assert_eq!(made.not_above(bound), expected, "case: {bound}");
    }
}

#[test]
fn what_began_anew_is_not_what_was_added() {
    let earlier = of(4, &[1.0, 2.0]);
    assert_eq!(of(4, &[1.0]).since(&earlier), None);
    assert_eq!(of(4, &[2.0, 2.0, 2.0]).since(&earlier), None);
    assert_eq!(earlier.since(&earlier).map(|nothing| nothing.count()), Some(0));
}

#[test]
fn points_that_make_no_sense_are_refused() {
    let good = of(3, &[0.0, 1.0, 3.0]).to_point(Vec::new(), 1, 2);
    assert!(Exponential::from_point(&good).is_ok());
    let some = |offset, bucket_counts| Some(Message { offset, bucket_counts });
    let mut cases = Vec::new();
    let mut case = |change: &dyn Fn(
        &mut opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint,
    ),
                    expected| {
        let mut point = good.clone();
        change(&mut point);
        cases.push((point, expected));
    };
    case(&|point| point.negative = some(0, vec![1]), InvalidPoint::Negative);
    case(&|point| point.scale = 21, InvalidPoint::Scale(21));
    case(&|point| point.scale = i32::MIN, InvalidPoint::Scale(i32::MIN));
    case(&|point| point.positive = some(i32::MAX, vec![1, 1]), InvalidPoint::Offset);
    case(&|point| point.positive = some(i32::MIN, vec![2]), InvalidPoint::Offset);
    case(&|point| point.positive = some(0, vec![0; 5000]), InvalidPoint::TooManyBuckets(5000));
    case(&|point| point.count = 4, InvalidPoint::Count);
    case(&|point| point.positive = some(0, vec![u64::MAX, 3]), InvalidPoint::Count);
    case(&|point| point.sum = None, InvalidPoint::Sum);
    case(&|point| point.sum = Some(f64::NAN), InvalidPoint::Sum);
    case(&|point| point.zero_threshold = -1.0, InvalidPoint::Sum);
    for (point, expected) in cases {
        assert_eq!(Exponential::from_point(&point), Err(expected));
    }
}

proptest! {
    #[test]
    fn a_quantile_is_off_by_no_more_than_its_scale_has_it(
        values in values(), quantile in 0.0..=1.0f64, scale in 0..=SCALE_LIMIT,
    ) {
        let made = of(scale, &values);
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (quantile * sorted.len() as f64).ceil().max(1.0);
        let ranked = (1..).zip(&sorted).find(|(number, _)| f64::from(*number) >= rank);
        let exact = *ranked.unwrap().1;
        let found = made.quantile(quantile).unwrap();
        let error = (found / exact).max(exact / found) - 1.0;
        prop_assert!(error <= made.relative_error() * 1.0001, "{found} for {exact}");
    }

    #[test]
    fn a_merge_is_all_values_at_once(first in values(), second in values(), scales in (0..=20, 0..=20)) {
        let mut merged = of(scales.0, &first);
        merged.merge(&of(scales.1, &second));
        let mut whole = of(scales.0.min(scales.1), &[first, second].concat());
        prop_assert!(whole.scale() >= merged.scale());
        whole.downscale(whole.scale().abs_diff(merged.scale()));
        prop_assert_eq!(whole.positive(), merged.positive());
        prop_assert_eq!(whole.count(), merged.count());
        prop_assert!((whole.sum() / merged.sum() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_added_is_what_is_more(first in values(), second in values(), scale in 0..=20) {
        let earlier = of(scale, &first);
        let now = of(scale, &[first, second.clone()].concat());
        let added = now.since(&earlier).unwrap();
        let mut expected = of(scale, &second);
        prop_assert!(expected.scale() >= added.scale());
        expected.downscale(expected.scale().abs_diff(added.scale()));
        prop_assert_eq!(added.positive(), expected.positive());
        prop_assert_eq!(added.count(), second.len() as u64);
    }

    #[test]
    fn no_histogram_has_too_many_ranges(
        values in prop::collection::vec((-1070.0..1020.0f64).prop_map(f64::exp2), 1..100),
    ) {
        let made = of(SCALE_LIMIT, &values);
        prop_assert!(made.positive().1.len() <= BUCKET_LIMIT);
        prop_assert_eq!(made.count(), values.len() as u64);
    }

    #[test]
    fn a_coarser_scale_loses_no_value(values in values(), times in 0..40u32) {
        let mut made = of(SCALE_LIMIT, &values);
        let (count, sum) = (made.count(), made.sum());
        made.downscale(times);
        prop_assert_eq!((made.count(), made.sum()), (count, sum));
        prop_assert!(made.scale() >= SCALE_FLOOR);
    }

    #[test]
    fn a_point_that_was_written_is_read_as_it_was(values in values(), scale in -10..=20) {
        let made = of(scale, &values);
        let point = made.to_point(Vec::new(), 1, 2);
        prop_assert_eq!(Exponential::from_point(&point).unwrap(), made);
    }

    #[test]
    fn any_message_is_read_or_refused(
        scale in -12..22, offset in any::<i32>(), counts in prop::collection::vec(0..3u64, 0..300),
        zero_count in 0..3u64,
    ) {
        let point = opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint {
            scale, zero_count, sum: Some(1.0), count: counts.iter().sum::<u64>() + zero_count,
            positive: Some(Message { offset, bucket_counts: counts }),
            ..Default::default()
        };
        if let Ok(made) = Exponential::from_point(&point) {
            prop_assert_eq!(made.count(), point.count);
            prop_assert!(made.positive().1.len() <= BUCKET_LIMIT);
            let _ = made.quantile(0.5);
        }
    }
}
