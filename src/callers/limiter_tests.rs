#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::pin::pin;

use futures_util::{future::join_all, poll};

use super::*;

fn limiter(limits: CallerLimits) -> Arc<CallerLimiter> {
    CallerLimiter::of(&Caller::new("build", Vec::new()).with_limits(limits)).unwrap()
}

fn count(count: u64) -> Option<NonZeroU64> {
    Some(NonZeroU64::new(count).unwrap())
}

fn refused_by(outcome: Result<CallerPermit, RexError>) -> (CallerLimit, u64, Duration) {
    match outcome {
        Err(RexError::CallerLimited { limit, value, retry_after, .. }) => (limit, value, retry_after),
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn a_caller_without_limits_has_no_limiter() {
    assert!(CallerLimiter::of(&Caller::new("build", Vec::new())).is_none());
}

#[tokio::test(start_paused = true)]
async fn streams_count_as_calls_and_calls_do_not_count_as_streams() {
    let limiter =
        limiter(CallerLimits { max_calls: count(3), max_streams: count(1), ..CallerLimits::default() });
    let _calls = [limiter.admit(CallKind::Unary).unwrap(), limiter.admit(CallKind::Unary).unwrap()];
    let stream = limiter.admit(CallKind::Stream).unwrap();
    assert_eq!(refused_by(limiter.admit(CallKind::Unary)), (CallerLimit::MaxCalls, 3, RETRY_AFTER));
    drop(stream);
    let _stream = limiter.admit(CallKind::Stream).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_refused_uses_nothing() {
    let limiter = limiter(CallerLimits {
        max_calls: count(2),
        max_streams: count(1),
        requests_per_second: count(2),
        ..CallerLimits::default()
    });
    let stream = limiter.admit(CallKind::Stream).unwrap();
    for _ in 0..10 {
        assert_eq!(refused_by(limiter.admit(CallKind::Stream)), (CallerLimit::MaxStreams, 1, RETRY_AFTER));
    }
    // The refused streams hold no permit for calls, and took no token.
    let call = limiter.admit(CallKind::Unary).unwrap();
    drop((stream, call));
    for _ in 0..10 {
        let wait = Duration::from_millis(500);
        assert_eq!(refused_by(limiter.admit(CallKind::Stream)), (CallerLimit::RequestsPerSecond, 2, wait));
    }
    sleep(Duration::from_millis(500)).await;
    // The calls without a token hold no permit.
    limiter.admit(CallKind::Stream).unwrap();
}

#[tokio::test(start_paused = true)]
async fn all_streams_of_a_caller_share_its_bytes() {
    let limiter = limiter(CallerLimits { bytes_per_second: count(1000), ..CallerLimits::default() });
    limiter.admit(CallKind::Stream).unwrap().pace(1000).await;
    let began = Instant::now();
    let stream = async || {
        let permit = limiter.admit(CallKind::Stream).unwrap();
        for _ in 0..10 {
            permit.pace(100).await;
        }
        began.elapsed()
    };
    let took = join_all((0..4).map(|_| stream())).await;
    // The burst is used up: 4,000 bytes take four seconds, and the last round of turns begins after 3.6 s.
    assert_eq!(took.iter().max().unwrap().as_millis(), 4000);
    assert!(took.iter().all(|took| took.as_millis() > 3600), "the streams take turns: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_cancelled_does_not_delay_others() {
    let limiter = limiter(CallerLimits { bytes_per_second: count(1000), ..CallerLimits::default() });
    let permit = limiter.admit(CallKind::Stream).unwrap();
    permit.pace(1000).await;
    {
        let mut cancelled = pin!(permit.pace(1000));
        assert!(poll!(cancelled.as_mut()).is_pending());
    }
    let began = Instant::now();
    permit.pace(100).await;
    assert_eq!(began.elapsed().as_millis(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_polled_does_not_delay_others_for_longer_than_its_chunk() {
    let limiter = limiter(CallerLimits { bytes_per_second: count(1000), ..CallerLimits::default() });
    let permit = limiter.admit(CallKind::Stream).unwrap();
    permit.pace(1000).await;
    let mut not_polled = pin!(permit.pace(500));
    assert!(poll!(not_polled.as_mut()).is_pending());
    let began = Instant::now();
    permit.pace(100).await;
    permit.pace(100).await;
    assert_eq!(began.elapsed().as_millis(), 700);
}

#[tokio::test(start_paused = true)]
async fn a_chunk_is_no_larger_than_a_seconds_worth() {
    let limits = CallerLimits { bytes_per_second: count(10_000), ..CallerLimits::default() };
    let permit = limiter(limits).admit(CallKind::Stream).unwrap();
    assert_eq!((permit.chunk_bytes(65_536), permit.chunk_bytes(4096)), (10_000, 4096));
    let limits = CallerLimits { max_calls: count(1), ..CallerLimits::default() };
    let permit = limiter(limits).admit(CallKind::Stream).unwrap();
    assert_eq!(permit.chunk_bytes(65_536), 65_536);
    // No rate: no wait.
    assert!(poll!(pin!(permit.pace(usize::MAX))).is_ready());
}
