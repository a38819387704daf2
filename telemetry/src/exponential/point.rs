//! Histograms to and from OTLP's messages.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point as message;

use crate::exponential::buckets::Buckets;
use crate::exponential::{Exponential, InvalidPoint, SCALE_FLOOR, SCALE_LIMIT};

impl Exponential {
    /// As a point of a series: all values from `start_unix_nanos` to `time_unix_nanos`.
    pub fn to_point(
        &self,
        attributes: Vec<KeyValue>,
        start_unix_nanos: u64,
        time_unix_nanos: u64,
    ) -> ExponentialHistogramDataPoint {
        let (offset, counts) = self.positive();
        ExponentialHistogramDataPoint {
            attributes,
            start_time_unix_nano: start_unix_nanos,
            time_unix_nano: time_unix_nanos,
            count: self.count(),
            sum: Some(self.sum),
            scale: self.scale,
            zero_count: self.zero_count,
            positive: Some(message::Buckets { offset, bucket_counts: counts.to_vec() }),
            zero_threshold: self.zero_threshold,
            ..ExponentialHistogramDataPoint::default()
        }
    }

    /// Of a point that anybody may have made. Its attributes and times are the caller's to read.
    pub fn from_point(point: &ExponentialHistogramDataPoint) -> Result<Self, InvalidPoint> {
        let is_empty =
            |buckets: &message::Buckets| buckets.bucket_counts.iter().all(|count| *count == 0);
        if !point.negative.as_ref().is_none_or(is_empty) {
            return Err(InvalidPoint::Negative);
        }
        let scale = point.scale;
        if !(SCALE_FLOOR..=SCALE_LIMIT).contains(&scale) {
            return Err(InvalidPoint::Scale(scale));
        }
        let (offset, counts): (i32, &[u64]) = match &point.positive {
            None => (0, &[]),
            Some(buckets) => (buckets.offset, &buckets.bucket_counts),
        };
        if counts.len() > READ_BUCKET_LIMIT {
            return Err(InvalidPoint::TooManyBuckets(counts.len()));
        }
        let positive = Buckets::new(offset, counts);
        let (first, last) = positive.bounds().unwrap_or_default();
        // What no double can be asked for is nothing that was measured.
        let limit = (EXPONENT_LIMIT << scale.max(0)) >> (-scale).max(0);
        if i64::from(first) < -limit - 1 || i64::from(last) > limit {
            return Err(InvalidPoint::Offset);
        }
        let add = |sum: u64, count: &u64| sum.checked_add(*count);
        if counts.iter().try_fold(point.zero_count, add) != Some(point.count) {
            return Err(InvalidPoint::Count);
        }
        let is_good = |number: f64| number.is_finite() && number >= 0.0;
        let sum = point.sum.filter(|sum| is_good(*sum)).ok_or(InvalidPoint::Sum)?;
        if !is_good(point.zero_threshold) {
            return Err(InvalidPoint::Sum);
        }
        let zeros = (point.zero_threshold, point.zero_count);
        Ok(Self::from_parts(scale, zeros, (offset, counts), sum))
    }
}

/// How many ranges of a message are read: some senders' default is 320, and what is made of them here has
/// fewer.
const READ_BUCKET_LIMIT: usize = 2048;
/// No double's exponent is further from zero, those below the normal ones included.
const EXPONENT_LIMIT: i64 = 1075;
