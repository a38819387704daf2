//! How messages are put on streams and taken from them: as everywhere, with small buffers. What is generated asks for this
//! codec by its path (`build.rs`).

use std::marker::PhantomData;

use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Reads and writes messages of protobuf.
///
/// A proxy holds three streams open on which mostly nothing happens, and a control plane three for each proxy: tonic's
/// own buffers of 8 KiB for every direction of every stream would take a third of what a proxy costs a control plane.
#[derive(Debug)]
pub struct SmallBuffers<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallBuffers<T, U>
where
    T: prost::Message + Send + 'static,
    U: prost::Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::raw_encoder(buffers())
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstCodec::<T, U>::raw_decoder(buffers())
    }
}

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}

/// What a buffer begins with, and grows by where that is too little: most messages are smaller.
const BUFFER_BYTES: usize = 512;
/// What is written is passed on when it is as much as this, whether or not there is more: what one stream leaves in its
/// buffer stays there.
const YIELD_BYTES: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::{Hello, ProxyMessage};

    #[test]
    fn streams_begin_with_small_buffers() {
        let mut codec = SmallBuffers::<ProxyMessage, Hello>::default();
        let shown = format!("{:?}", (codec.encoder(), codec.decoder()));
        assert_eq!(shown.matches(&format!("buffer_size: {BUFFER_BYTES}")).count(), 2, "{shown}");
    }
}
