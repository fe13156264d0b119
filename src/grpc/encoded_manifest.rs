//! The response of `GetManifest`, encoded once for all calls that get the same manifest.

use std::ops::Range;

use bytes::Bytes;
use oci_spec::image::Descriptor;
use prost::Message as _;

use super::{convert, proto, wire};
use crate::{client::Manifest, reads::ManifestView};

/// The encoded response, without the index from which a platform was picked.
#[derive(Debug, Clone)]
pub struct EncodedManifest {
    /// The gRPC frame.
    frame: Bytes,
    /// Where the frame has the exact bytes of the manifest, so that they are in memory once.
    content: Range<usize>,
}

impl ManifestView for EncodedManifest {
    fn of(manifest: Manifest) -> Self {
        let response = convert::manifest_response(manifest);
        let content_bytes = response.content.len();
        let before = proto::GetManifestResponse {
            content_descriptor: response.content_descriptor.clone(),
            ..Default::default()
        };
        // Fields are encoded in the order of their numbers: the descriptor is 1, the content 2.
        let begin = wire::HEAD_BYTES
            + before.encoded_len()
            + prost::encoding::key_len(2)
            + prost::encoding::encoded_len_varint(content_bytes as u64);
        Self { frame: wire::encode(&response), content: begin..begin + content_bytes }
    }

    fn content(&self) -> Bytes {
        self.frame.slice(self.content.clone())
    }

    fn bytes(&self) -> usize {
        self.frame.len()
    }
}

impl EncodedManifest {
    /// The frame of the response, with the index from which a platform was picked.
    pub(super) fn frame(&self, index: Option<&Descriptor>) -> Bytes {
        let Some(index) = index else { return self.frame.clone() };
        let index =
            proto::GetManifestResponse { index: Some(convert::descriptor(index)), ..Default::default() };
        // Encoded messages that follow each other are one message with the fields of both.
        wire::join(&self.frame, &index)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use oci_spec::image::MediaType;
    use prost::Message as _;

    use super::*;
    use crate::client::Document;

    #[test]
    fn the_frame_has_the_content_once_and_the_index_when_there_is_one() {
        for bytes in [2, 127, 128, 20_000] {
            let content = Bytes::from("7".repeat(bytes));
            let digest = format!("sha256:{}", "a".repeat(64)).parse::<oci_spec::image::Digest>().unwrap();
            let descriptor = Descriptor::new(MediaType::ImageManifest, bytes as u64, digest);
            let manifest = Manifest {
                descriptor: descriptor.clone(),
                content: content.clone(),
                document: Document::Other,
            };
            let view = EncodedManifest::of(manifest);
            assert_eq!(view.content(), content);
            for index in [None, Some(&descriptor)] {
                let frame = view.frame(index);
                let (head, message) = frame.split_at(wire::HEAD_BYTES);
                assert_eq!(head, [&[0], &u32::try_from(message.len()).unwrap().to_be_bytes()[..]].concat());
                let response = proto::GetManifestResponse::decode(message).unwrap();
                assert_eq!(response.content, content);
                assert_eq!(response.content_descriptor, Some(convert::descriptor(&descriptor)));
                assert_eq!(response.index, index.map(convert::descriptor));
            }
        }
    }
}
