//! What is told from the bytes is what prost has then allocated.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    ArrayValue, InstrumentationScope, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, Gauge, Histogram, Sum, Summary,
    exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::parts::split;

/// What a message has allocated, as its lists and texts say themselves.
trait Held {
    fn held(&self) -> usize;
}

impl Held for String {
    fn held(&self) -> usize {
        self.capacity()
    }
}

impl Held for u64 {
    fn held(&self) -> usize {
        0
    }
}

impl Held for f64 {
    fn held(&self) -> usize {
        0
    }
}

impl<T: Held> Held for Vec<T> {
    fn held(&self) -> usize {
        self.capacity() * size_of::<T>() + self.iter().map(Held::held).sum::<usize>()
    }
}

impl<T: Held> Held for Option<T> {
    fn held(&self) -> usize {
        self.as_ref().map_or(0, Held::held)
    }
}

macro_rules! held {
    ($($message:ty: $($field:ident)*;)*) => {
        $(impl Held for $message {
            fn held(&self) -> usize {
                [$(self.$field.held()),*].iter().sum()
            }
        })*
    };
}

held! {
    ExportMetricsServiceRequest: resource_metrics;
    ResourceMetrics: resource scope_metrics schema_url;
    Resource: attributes entity_refs;
    EntityRef: schema_url r#type id_keys description_keys;
    ScopeMetrics: scope metrics schema_url;
    InstrumentationScope: name version attributes;
    Metric: name description unit metadata data;
    Gauge: data_points;
    Sum: data_points;
    Histogram: data_points;
    ExponentialHistogram: data_points;
    Summary: data_points;
    NumberDataPoint: attributes exemplars;
    HistogramDataPoint: attributes bucket_counts explicit_bounds exemplars;
    ExponentialHistogramDataPoint: attributes positive negative exemplars;
    Buckets: bucket_counts;
    SummaryDataPoint: attributes quantile_values;
    KeyValue: key value;
    AnyValue: value;
    ArrayValue: values;
    KeyValueList: values;
}

impl Held for ValueAtQuantile {
    fn held(&self) -> usize {
        0
    }
}

impl Held for Exemplar {
    fn held(&self) -> usize {
        self.span_id.capacity() + self.trace_id.capacity() + self.filtered_attributes.held()
    }
}

impl Held for Data {
    fn held(&self) -> usize {
        match self {
            Self::Gauge(gauge) => gauge.held(),
            Self::Sum(sum) => sum.held(),
            Self::Histogram(histogram) => histogram.held(),
            Self::ExponentialHistogram(histogram) => histogram.held(),
            Self::Summary(summary) => summary.held(),
        }
    }
}

impl Held for any_value::Value {
    fn held(&self) -> usize {
        match self {
            Self::StringValue(text) => text.held(),
            Self::BytesValue(bytes) => bytes.capacity(),
            Self::ArrayValue(array) => array.held(),
            Self::KvlistValue(list) => list.held(),
            Self::BoolValue(_)
            | Self::IntValue(_)
            | Self::DoubleValue(_)
            | Self::StringValueStrindex(_) => 0,
        }
    }
}

/// Makes messages of any shape from bytes: each says what comes next, or how many.
struct Maker<'a>(&'a [u8]);

impl Maker<'_> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    fn text(&mut self) -> String {
        "x".repeat(usize::from(self.byte() % 40))
    }

    fn many<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.byte() % 12).map(|_| make(self)).collect()
    }

    fn value(&mut self, depth: usize) -> AnyValue {
        let value = match self.byte() % 9 {
            0 => any_value::Value::BoolValue(true),
            1 => any_value::Value::IntValue(i64::from(self.byte())),
            2 => any_value::Value::DoubleValue(1.5),
            3 => any_value::Value::BytesValue(self.text().into_bytes()),
            4 if depth < 5 => any_value::Value::ArrayValue(ArrayValue {
                values: self.many(|it| it.value(depth + 1)),
            }),
            5 if depth < 5 => any_value::Value::KvlistValue(KeyValueList {
                values: self.many(|it| it.key_value(depth + 1)),
            }),
            6 => return AnyValue { value: None },
            _ => any_value::Value::StringValue(self.text()),
        };
        AnyValue { value: Some(value) }
    }

    fn key_value(&mut self, depth: usize) -> KeyValue {
        let value = (!self.byte().is_multiple_of(4)).then(|| self.value(depth));
        KeyValue { key: self.text(), value, ..KeyValue::default() }
    }

    fn attributes(&mut self) -> Vec<KeyValue> {
        self.many(|it| it.key_value(0))
    }

    fn exemplars(&mut self) -> Vec<Exemplar> {
        self.many(|it| Exemplar {
            filtered_attributes: it.attributes(),
            span_id: it.text().into_bytes(),
            trace_id: it.text().into_bytes(),
            ..Exemplar::default()
        })
    }

    fn number(&mut self) -> NumberDataPoint {
        NumberDataPoint {
            attributes: self.attributes(),
            exemplars: self.exemplars(),
            start_time_unix_nano: u64::from(self.byte()),
            value: Some(number_data_point::Value::AsInt(i64::from(self.byte()))),
            ..NumberDataPoint::default()
        }
    }

    fn buckets(&mut self) -> Option<Buckets> {
        let bucket_counts = self.many(|it| u64::from(it.byte()) << (it.byte() % 50));
        (!self.byte().is_multiple_of(3)).then_some(Buckets { bucket_counts, ..Buckets::default() })
    }

    fn data(&mut self) -> Option<Data> {
        Some(match self.byte() % 6 {
            0 => Data::Gauge(Gauge { data_points: self.many(Self::number) }),
            1 => Data::Sum(Sum { data_points: self.many(Self::number), ..Sum::default() }),
            2 => Data::Histogram(Histogram {
                data_points: self.many(|it| HistogramDataPoint {
                    attributes: it.attributes(),
                    bucket_counts: it.many(|it| u64::from(it.byte())),
                    explicit_bounds: it.many(|it| f64::from(it.byte())),
                    exemplars: it.exemplars(),
                    ..HistogramDataPoint::default()
                }),
                ..Histogram::default()
            }),
            3 => Data::ExponentialHistogram(ExponentialHistogram {
                data_points: self.many(|it| ExponentialHistogramDataPoint {
                    attributes: it.attributes(),
                    positive: it.buckets(),
                    negative: it.buckets(),
                    exemplars: it.exemplars(),
                    ..ExponentialHistogramDataPoint::default()
                }),
                ..ExponentialHistogram::default()
            }),
            4 => Data::Summary(Summary {
                data_points: self.many(|it| SummaryDataPoint {
                    attributes: it.attributes(),
                    quantile_values: it.many(|_| ValueAtQuantile::default()),
                    ..SummaryDataPoint::default()
                }),
            }),
            _ => return None,
        })
    }

    fn request(&mut self) -> ExportMetricsServiceRequest {
        let resource_metrics = self.many(|it| ResourceMetrics {
            resource: (it.byte() % 4 > 0).then(|| Resource {
                attributes: it.attributes(),
                entity_refs: it.many(|it| EntityRef {
                    schema_url: it.text(),
                    r#type: it.text(),
                    id_keys: it.many(Self::text),
                    description_keys: it.many(Self::text),
                }),
                ..Resource::default()
            }),
            scope_metrics: it.many(|it| ScopeMetrics {
                scope: (it.byte() % 4 > 0).then(|| InstrumentationScope {
                    name: it.text(),
                    version: it.text(),
                    attributes: it.attributes(),
                    ..InstrumentationScope::default()
                }),
                metrics: it.many(|it| Metric {
                    name: it.text(),
                    description: it.text(),
                    unit: it.text(),
                    metadata: it.attributes(),
                    data: it.data(),
                }),
                schema_url: it.text(),
            }),
            schema_url: it.text(),
        });
        ExportMetricsServiceRequest { resource_metrics }
    }
}

proptest! {
    #[test]
    fn what_is_told_of_a_message_is_what_reading_it_allocates(
        seeds in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        let bytes = Maker(&seeds).request().encode_to_vec();
        let read = ExportMetricsServiceRequest::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(footprint_bytes(&bytes), Ok(read.held()));
    }

    #[test]
    fn of_whatever_can_be_read_no_less_is_told_than_it_takes(
        seeds in proptest::collection::vec(any::<u8>(), 0..2000),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = Maker(&seeds).request().encode_to_vec();
        for (index, byte) in changes {
            if !bytes.is_empty() {
                let place = index.index(bytes.len());
                bytes[place] = byte;
            }
        }
        let told = footprint_bytes(&bytes);
        if let Ok(read) = ExportMetricsServiceRequest::decode(bytes.as_slice()) {
            match told {
                Ok(told) => prop_assert!(told >= read.held(), "{} of {}", told, read.held()),
                Err(unreadable) => prop_assert_eq!(unreadable, Unreadable::Group),
            }
        }
    }
}

/// A message within one, again and again: the field's number, and how often.
fn nested(fields: &[u8], inmost: &[u8]) -> Vec<u8> {
    fields.iter().rev().fold(inmost.to_vec(), |inner, field| {
        let mut outer = vec![field << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut outer);
        outer.extend(inner);
        outer
    })
}

#[test]
fn empty_parts_take_many_times_their_length() {
    const LENGTH: usize = 1 << 20;
    for (case, path, field, times) in [
        ("resources", &[][..], 1, 20),
        ("scopes", &[1], 2, 20),
        ("metrics", &[1, 2], 2, 20),
        ("numbers", &[1, 2, 2, 7], 1, 30),
        ("histograms", &[1, 2, 2, 9], 1, 50),
        ("exponential histograms", &[1, 2, 2, 10], 1, 90),
        ("summaries", &[1, 2, 2, 11], 1, 30),
        ("attributes", &[1, 1], 1, 20),
        ("values", &[1, 1, 1, 2, 5], 1, 10),
    ] {
        let message = nested(path, &[field << 3 | 2, 0].repeat(LENGTH / 2));
        let told = footprint_bytes(&message).unwrap();
        let read = ExportMetricsServiceRequest::decode(message.as_slice()).unwrap();
        assert_eq!(told, read.held(), "case: {case}");
        assert!(told >= times * LENGTH, "case: {case}: {told}");
    }
}

#[test]
fn parts_that_are_said_twice_have_lists_that_go_on() {
    let sum = |points: usize| nested(&[7], &[1 << 3 | 2, 0].repeat(points));
    for counts in
        [&[3, 6][..], &[16, 1], &[1, 16], &[5, 4], &[0, 3], &[1, 1, 1, 1, 1], &[64, 1, 64]]
    {
        let metric: Vec<u8> = counts.iter().flat_map(|points| sum(*points)).collect();
        let message = nested(&[1, 2, 2], &metric);
        let told = footprint_bytes(&message).unwrap();
        let read = ExportMetricsServiceRequest::decode(message.as_slice()).unwrap();
        assert!(told >= read.held(), "case: {counts:?}: {told} of {}", read.held());
    }
}

#[test]
fn what_proxies_send_takes_a_few_times_its_length() {
    let point = |number: u64| ExponentialHistogramDataPoint {
        attributes: [
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("heddle.service", "default/checkout:8080"),
            ("heddle.backend", "default/checkout-v2:8080"),
            ("heddle.peer.identity", "spiffe://cluster.local/ns/default/sa/frontend"),
            ("heddle.tls", "mtls"),
        ]
        .map(|(key, value)| crate::otlp::text(key, value))
        .to_vec(),
        start_time_unix_nano: number,
        positive: Some(Buckets { offset: 3, bucket_counts: (0..60).collect() }),
        ..ExponentialHistogramDataPoint::default()
    };
    let metric = crate::otlp::About { name: "a", unit: "s", description: "" };
    let metric = metric.histogram((0..10_000).map(point).collect());
    let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
    let resource = ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() };
    let request = ExportMetricsServiceRequest { resource_metrics: vec![resource] };
    for part in split(request, 512 * 1024) {
        let bytes = part.encode_to_vec();
        let told = footprint_bytes(&bytes).unwrap();
        assert!(told < 6 * bytes.len().max(4096), "{told} of {}", bytes.len());
    }
}

#[test]
fn what_is_no_message_is_refused() {
    let mut deep = Vec::new();
    for _ in 0..60 {
        // A value that is a list of values.
        deep.extend([5, 1]);
    }
    for (case, bytes, expected) in [
        ("nothing", Vec::new(), Ok(0)),
        ("a field that is not known", vec![15 << 3, 1], Ok(0)),
        ("a length beyond the end", vec![1 << 3 | 2, 5, 0], Err(Unreadable::Malformed)),
        ("a number without an end", vec![0xff; 12], Err(Unreadable::Malformed)),
        ("a kind that there is not", vec![1 << 3 | 7], Err(Unreadable::Malformed)),
        ("a group", vec![15 << 3 | 3, 15 << 3 | 4], Err(Unreadable::Group)),
        ("a tower", nested(&[&[1, 1, 1, 2][..], &deep].concat(), &[]), Err(Unreadable::Deep)),
    ] {
        assert_eq!(footprint_bytes(&bytes), expected, "case: {case}");
        let read = ExportMetricsServiceRequest::decode(bytes.as_slice());
        assert_eq!(read.is_ok(), expected.is_ok() || case == "a group", "case: {case}: {read:?}");
    }
}
