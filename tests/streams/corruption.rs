//! Wrong bytes: whatever is corrupted on the way, no caller ever gets a complete corrupt blob.

use tonic::Code;

use crate::{
    Received, Setting, large_blob, small_blob,
    support::{fault::Fault, status::Failure},
};

/// The stream ended with DATA_LOSS and at least one byte short of `size`.
fn is_data_loss(received: Received, size: usize, context: &str) {
    assert!(received.trailer.is_none(), "{context}: a trailer");
    assert!(received.data.len() < size, "{context}: a complete blob");
    let status = received.error.unwrap();
    let failure = Failure::expect(status, Code::DataLoss, "DIGEST_MISMATCH", context);
    assert_eq!(failure.retry_ms(), None, "{context}: there is no retry delay");
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_data_loss_and_not_silently_retried() {
    for (request, blob) in [large_blob(), small_blob()] {
        for offset in [0, blob.len() / 2, blob.len() - 1] {
            for bit in [0, 7] {
                let flip = Fault::FlipBit { offset: offset as u64, bit };
                let mut setting = Setting::with([(1, flip)]).await;
                let received = setting.read(request.clone()).await.unwrap();
                is_data_loss(received, blob.len(), &format!("bit {bit} of byte {offset}"));
                assert_eq!(setting.proxy.connection_log().requests().len(), 1);
                assert_eq!(setting.proxy.connection_log().faults(), 1);
            }
        }
    }
}

#[tokio::test]
async fn a_bit_flipped_after_a_resume_is_data_loss() {
    let (request, blob) = large_blob();
    for offset in [0, 1, blob.len() as u64 - 100_001] {
        let faults = [(1, Fault::CutAfter(100_000)), (2, Fault::FlipBit { offset, bit: 3 })];
        let mut setting = Setting::with(faults).await;
        let received = setting.read(request.clone()).await.unwrap();
        is_data_loss(received, blob.len(), &format!("byte {offset} after the resume"));
    }
}

#[tokio::test]
async fn a_blob_that_is_announced_and_sent_too_short_is_data_loss() {
    let (request, blob) = large_blob();
    for length in [0, 1, 100_000, blob.len() as u64 - 1] {
        let mut setting = Setting::with([(1, Fault::AnnounceLength(length))]).await;
        let received = setting.read(request.clone()).await.unwrap();
        is_data_loss(received, blob.len(), &format!("{length} bytes announced"));
    }
}

#[tokio::test]
async fn another_blob_of_the_same_size_is_data_loss() {
    let (request, blob) = small_blob();
    let mut raw = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", blob.len())
        .into_bytes();
    raw.extend(crate::noise(blob.len()));
    let mut setting = Setting::with([(1, Fault::Replace(raw))]).await;
    let received = setting.read(request).await.unwrap();
    is_data_loss(received, blob.len(), "other bytes");
}
