//! What the control plane sends: wire messages into model values.

use heddle_model::destination::Destination;
use heddle_model::endpoint::Endpoint;
use heddle_model::policy::BackendPolicy;
use heddle_model::workload::Workload;
use heddle_proto::discovery as wire;
use prost::Message;

/// What can be read is sent again as it was read; what cannot be is refused, and nothing panics.
pub(crate) fn check(data: &[u8]) {
    round_trip::<wire::Destination, Destination>(data, |value| value.into());
    round_trip::<wire::Workload, Workload>(data, |value| value.into());
    round_trip::<wire::Endpoint, Endpoint>(data, |value| value.into());
    round_trip::<wire::BackendPolicy, BackendPolicy>(data, |value| value.into());
}

fn round_trip<W, M>(data: &[u8], to_wire: fn(&M) -> W)
where
    W: Message + Default,
    M: TryFrom<W> + PartialEq + std::fmt::Debug,
{
    let Ok(message) = W::decode(data) else { return };
    let Ok(read) = M::try_from(message) else { return };
    // What is sent is read as the same, whatever odd way the first message said it in.
    let sent = to_wire(&read).encode_to_vec();
    let again = W::decode(sent.as_slice()).ok().and_then(|message| M::try_from(message).ok());
    assert_eq!(again.as_ref(), Some(&read), "what was sent is not what was read");
}
