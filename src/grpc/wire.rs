//! Encodes messages as gRPC frames.
//!
//! In those of `StreamBlob`, `data` is the last field of `BlobChunk`, and `chunk` is the only field of its message. So an encoded message is a short
//! prefix, followed by the blob's bytes. Prefix and bytes are passed to HTTP/2 separately, without a copy, and every gRPC
//! client can decode them.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};

use super::proto;

/// A gRPC frame with one message, in two parts.
#[derive(Debug)]
pub struct Framed {
    /// gRPC's five bytes, and the message up to `data`.
    pub prefix: Bytes,
    /// The blob's bytes. Empty for a header and a trailer.
    pub data: Bytes,
}

/// The bytes before a message.
pub(super) const HEAD_BYTES: usize = 5;

/// The five bytes before a message (gRPC "PROTOCOL-HTTP2", Length-Prefixed-Message): the flag for compression, which is not
/// set, and the length.
fn put_message_head(buffer: &mut BytesMut, length: usize) {
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// Encodes a message without the blob's bytes: a header or a trailer.
#[must_use]
pub fn message(frame: proto::stream_blob_response::Frame) -> Framed {
    Framed { prefix: encode(&proto::StreamBlobResponse { frame: Some(frame) }), data: Bytes::new() }
}

/// Encodes a message.
pub(super) fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(HEAD_BYTES + length);
    put_message_head(&mut buffer, length);
    message.encode_raw(&mut buffer);
    buffer.freeze()
}

/// The frame of a message that continues the one in `frame`.
pub(super) fn join(frame: &[u8], message: &impl Message) -> Bytes {
    let first = frame.get(HEAD_BYTES..).unwrap_or_default();
    let length = first.len() + message.encoded_len();
    let mut buffer = BytesMut::with_capacity(HEAD_BYTES + length);
    put_message_head(&mut buffer, length);
    buffer.put_slice(first);
    message.encode_raw(&mut buffer);
    buffer.freeze()
}

/// The field numbers of the proto, which are part of the API.
const CHUNK_FIELD: u32 = 2;
const OFFSET_FIELD: u32 = 1;
const DATA_FIELD: u32 = 2;

/// Encodes a chunk whose `data` begins at `offset` of the blob. The prefix has gRPC's five bytes, the tag and length of
/// `chunk`, `offset`, and the tag and length of `data`.
#[must_use]
pub fn chunk(offset: u64, data: Bytes) -> Framed {
    let offset_length = if offset == 0 { 0 } else { key_len(OFFSET_FIELD) + encoded_len_varint(offset) };
    let data_head =
        if data.is_empty() { 0 } else { key_len(DATA_FIELD) + encoded_len_varint(data.len() as u64) };
    let chunk_length = offset_length + data_head + data.len();
    let message_length = key_len(CHUNK_FIELD) + encoded_len_varint(chunk_length as u64) + chunk_length;
    let mut prefix = BytesMut::with_capacity(HEAD_BYTES + message_length - data.len());
    put_message_head(&mut prefix, message_length);
    encode_key(CHUNK_FIELD, WireType::LengthDelimited, &mut prefix);
    encode_varint(chunk_length as u64, &mut prefix);
    // Fields with their default value are not written.
    if offset > 0 {
        encode_key(OFFSET_FIELD, WireType::Varint, &mut prefix);
        encode_varint(offset, &mut prefix);
    }
    if !data.is_empty() {
        encode_key(DATA_FIELD, WireType::LengthDelimited, &mut prefix);
        encode_varint(data.len() as u64, &mut prefix);
    }
    Framed { prefix: prefix.freeze(), data }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Prefix and bytes together are what prost encodes.
        #[test]
        fn a_chunk_is_prosts_own_encoding(offset in prop_oneof![Just(0u64), 0..=i64::MAX as u64], size in prop_oneof![0..70_000usize, Just(1 << 20)]) {
            let data = Bytes::from(vec![7; size]);
            let chunk_message = proto::BlobChunk { offset: i64::try_from(offset).unwrap_or(i64::MAX), data: data.clone() };
            let expected = message(proto::stream_blob_response::Frame::Chunk(chunk_message)).prefix;
            let framed = chunk(offset, data);
            prop_assert_eq!([framed.prefix, framed.data].concat(), expected);
        }
    }
}
