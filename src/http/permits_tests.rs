#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinHandle,
};

use super::*;

/// Makes calls of one share that wait for a permit, and reports each permit to `granted`. A call holds its permit until the
/// report is dropped.
async fn wait(
    permits: &Permits,
    share: &'static str,
    calls: usize,
    granted: &UnboundedSender<(&'static str, Permit)>,
) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for _ in 0..calls {
        let (permits, granted) = (permits.clone(), granted.clone());
        tasks.push(tokio::spawn(async move {
            let permit = permits.acquire(Share::of(share)).await;
            let _ = granted.send((share, permit));
        }));
    }
    settle().await;
    tasks
}

/// Lets every task run until it waits: time passes only when all of them do.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Whose permits were granted, one after the other, `count` of them.
async fn order(granted: &mut UnboundedReceiver<(&'static str, Permit)>, count: usize) -> Vec<&'static str> {
    let mut shares = Vec::new();
    for _ in 0..count {
        let (share, permit) = granted.recv().await.unwrap();
        shares.push(share);
        drop(permit);
    }
    shares
}

fn assert_all_free(permits: &Permits, count: usize) {
    let state = permits.lock();
    assert_eq!(state.free, count);
    assert!(state.queues.is_empty() && state.turns.is_empty(), "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn no_more_permits_are_held_than_there_are() {
    let permits = Permits::new(2);
    let first = permits.try_acquire().unwrap();
    let second = permits.acquire(Share::of("a")).await;
    assert!(permits.try_acquire().is_none());
    let third = permits.acquire(Share::of("a"));
    assert!(tokio::time::timeout(Duration::from_secs(60), third).await.is_err());
    drop((first, second));
    assert_all_free(&permits, 2);
}

#[tokio::test(start_paused = true)]
async fn another_caller_gets_the_next_permit_while_a_thousand_calls_of_one_wait() {
    let permits = Permits::new(1);
    let held = permits.try_acquire().unwrap();
    let (granted, mut reports) = mpsc::unbounded_channel();
    wait(&permits, "many", 1000, &granted).await;
    wait(&permits, "one", 1, &granted).await;
    drop(held);
    let order = order(&mut reports, 1001).await;
    let place = order.iter().position(|share| *share == "one").unwrap();
    assert!(place <= 1, "the other caller's call came after {place} calls");
    assert_all_free(&permits, 1);
}

#[tokio::test(start_paused = true)]
async fn shares_take_turns_and_each_share_keeps_its_own_order() {
    let permits = Permits::new(1);
    let held = permits.try_acquire().unwrap();
    let (granted, mut reports) = mpsc::unbounded_channel();
    wait(&permits, "a", 4, &granted).await;
    wait(&permits, "b", 2, &granted).await;
    wait(&permits, "c", 1, &granted).await;
    drop(held);
    assert_eq!(order(&mut reports, 7).await, ["a", "b", "c", "a", "b", "a", "a"]);
    assert_all_free(&permits, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_comes_later_does_not_overtake_those_that_wait() {
    let permits = Permits::new(1);
    let held = permits.try_acquire().unwrap();
    let (granted, mut reports) = mpsc::unbounded_channel();
    wait(&permits, "early", 1, &granted).await;
    drop(held);
    assert!(permits.try_acquire().is_none(), "the permit belongs to the call that waits");
    assert_eq!(order(&mut reports, 1).await, ["early"]);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_dropped_leaves_no_trace() {
    let permits = Permits::new(1);
    let held = permits.try_acquire().unwrap();
    let (granted, mut reports) = mpsc::unbounded_channel();
    let cancelled = wait(&permits, "a", 1000, &granted).await;
    let half_cancelled = wait(&permits, "b", 3, &granted).await;
    wait(&permits, "c", 1, &granted).await;
    for task in cancelled.iter().chain(half_cancelled.iter().take(2)) {
        task.abort();
    }
    settle().await;
    {
        let state = permits.lock();
        assert_eq!((state.queues.len(), state.turns.len()), (2, 2));
        assert_eq!(state.queues.values().map(|queue| queue.waiters.len()).sum::<usize>(), 2);
    }
    drop(held);
    assert_eq!(order(&mut reports, 2).await, ["b", "c"]);
    assert_all_free(&permits, 1);
}

#[tokio::test(start_paused = true)]
async fn a_permit_granted_to_a_waiter_that_is_dropped_goes_to_the_next() {
    let permits = Permits::new(1);
    let held = permits.try_acquire().unwrap();
    let mut dropped = Box::pin(permits.acquire(Share::of("a")));
    let polled = tokio::time::timeout(Duration::ZERO, &mut dropped).await;
    assert!(polled.is_err());
    let (granted, mut reports) = mpsc::unbounded_channel();
    wait(&permits, "b", 1, &granted).await;
    drop(held);
    // The permit is granted, and the future is dropped before it is polled again.
    drop(dropped);
    assert_eq!(order(&mut reports, 1).await, ["b"]);
    assert_all_free(&permits, 1);
}
