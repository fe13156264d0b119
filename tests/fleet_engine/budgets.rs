//! Budgets of a fleet: rates and requests in flight, over several replicas.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rexd::{
    client::{BudgetedRequest, SharedBudget},
    reads::fleet::{BudgetLimits, Engine},
};

use tokio::task::JoinHandle;

use crate::server::{PATIENCE, Server, until_connected};

async fn replicas<const N: usize>(server: &Server) -> [Engine; N] {
    let engines = std::array::from_fn(|_| server.engine());
    for engine in &engines {
        until_connected(engine).await;
    }
    engines
}

fn rate(requests_per_second: u32) -> BudgetLimits {
    BudgetLimits { requests_per_second: Some(requests_per_second), max_concurrent_requests: None }
}

fn in_flight(max_concurrent_requests: u32) -> BudgetLimits {
    BudgetLimits { requests_per_second: None, max_concurrent_requests: Some(max_concurrent_requests) }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn three_replicas_together_keep_the_rate() {
    let server = Server::start();
    let engines = replicas::<3>(&server).await;
    let began = Instant::now();
    let mut tasks = Vec::new();
    for engine in &engines {
        let budget = engine.budget("docker.io", rate(100));
        for number in 0..100 {
            let budget = Arc::clone(&budget);
            let kind = [BudgetedRequest::Concurrent, BudgetedRequest::RateOnly][number % 2];
            tasks.push(tokio::spawn(async move {
                budget.admit(kind).await;
                began.elapsed()
            }));
        }
    }
    let mut times = Vec::new();
    for task in tasks {
        times.push(tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap());
    }
    times.sort();
    // A slow machine admits later than the slots are, so requests may bunch up by as much as it is late; but no more of
    // them have been admitted at any time than the rate allows from the start.
    for (number, time) in times.iter().enumerate() {
        let allowed = 1.0 + time.as_secs_f64() * 100.0 + 1.0;
        assert!((number + 1) as f64 <= allowed, "{} after {time:?}", number + 1);
    }
    assert!(times[299] >= Duration::from_millis(2950), "{:?}", times[299]);
    // Less than one round trip a request, the pauses' included.
    let trips: u64 = engines.iter().map(|engine| engine.counts().done).sum();
    assert!(trips < 300, "{trips} round trips for 300 requests");
    assert!(times[299] < PATIENCE / 2, "{:?}", times[299]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn three_replicas_together_keep_the_requests_in_flight_and_each_gets_some() {
    let server = Server::start();
    let engines = replicas::<3>(&server).await;
    let (in_flight_now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut replicas = Vec::new();
    for engine in &engines {
        let budget = engine.budget("docker.io", in_flight(6));
        let (now, most) = (Arc::clone(&in_flight_now), Arc::clone(&most));
        replicas.push(tokio::spawn(async move {
            let mut tasks = Vec::new();
            for _ in 0..60 {
                let (budget, now, most) = (Arc::clone(&budget), Arc::clone(&now), Arc::clone(&most));
                tasks.push(tokio::spawn(async move {
                    let permit = budget.admit(BudgetedRequest::Concurrent).await;
                    most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    now.fetch_sub(1, SeqCst);
                    drop(permit);
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
        }));
    }
    for replica in replicas {
        tokio::time::timeout(PATIENCE, replica).await.unwrap().unwrap();
    }
    assert!((2..=6).contains(&most.load(SeqCst)), "{}", most.load(SeqCst));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn two_replicas_take_turns_with_a_single_permit() {
    let server = Server::start();
    let [one, other] = replicas(&server).await;
    let (one, other) = (one.budget("docker.io", in_flight(1)), other.budget("docker.io", in_flight(1)));
    let turns = Arc::new(AtomicUsize::new(0));
    // Several wait all the time.
    let busy = [(); 4].map(|()| {
        let (budget, turns) = (Arc::clone(&one), Arc::clone(&turns));
        tokio::spawn(async move {
            loop {
                let permit = budget.admit(BudgetedRequest::Concurrent).await;
                turns.fetch_add(1, SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
                drop(permit);
            }
        })
    });
    drop(tokio::time::timeout(PATIENCE, other.admit(BudgetedRequest::Concurrent)).await.unwrap());
    let before = turns.load(SeqCst);
    for _ in 0..10 {
        drop(tokio::time::timeout(PATIENCE, other.admit(BudgetedRequest::Concurrent)).await.unwrap());
    }
    let turns = turns.load(SeqCst) - before;
    assert!((5..=25).contains(&turns), "{turns} turns of one replica for 10 of the other");
    busy.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn the_permits_of_a_replica_that_crashes_come_back() {
    let server = Server::start();
    let crashed = server.engine();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let permits = runtime.block_on(async {
            until_connected(&crashed).await;
            let budget = crashed.budget("docker.io", in_flight(2));
            let permits = [(), ()].map(|()| budget.admit(BudgetedRequest::Concurrent));
            let [first, second] = permits;
            (first.await, second.await)
        });
        runtime.shutdown_background();
        sender.send(permits).unwrap();
    });
    let _permits = receiver.recv_timeout(PATIENCE).unwrap();
    let budget = replicas::<1>(&server).await[0].budget("docker.io", in_flight(2));
    let began = Instant::now();
    drop(tokio::time::timeout(PATIENCE, budget.admit(BudgetedRequest::Concurrent)).await.unwrap());
    assert!(began.elapsed() > Duration::from_secs(2), "they were never held: {:?}", began.elapsed());
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn permits_that_are_held_for_long_are_kept() {
    let server = Server::start();
    let [one, other] = replicas(&server).await;
    let (one, other) = (one.budget("docker.io", in_flight(1)), other.budget("docker.io", in_flight(1)));
    let permit = one.admit(BudgetedRequest::Concurrent).await;
    let refused =
        tokio::time::timeout(Duration::from_secs(13), other.admit(BudgetedRequest::Concurrent)).await;
    assert!(refused.is_err());
    drop(permit);
    tokio::time::timeout(PATIENCE, other.admit(BudgetedRequest::Concurrent)).await.unwrap();
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn without_an_engine_everything_is_admitted() {
    let mut server = Server::start();
    let [engine] = replicas(&server).await;
    let budget: Arc<dyn SharedBudget> = engine
        .budget("docker.io", BudgetLimits { requests_per_second: Some(1), max_concurrent_requests: Some(1) });
    let first = budget.admit(BudgetedRequest::Concurrent).await;
    server.kill();
    let mut permits = vec![first];
    for _ in 0..50 {
        permits
            .push(tokio::time::timeout(PATIENCE, budget.admit(BudgetedRequest::Concurrent)).await.unwrap());
    }
    server.restart();
    until_connected(&engine).await;
    // The engine learns what is held: nothing fits until all but none are returned.
    let blocked = tokio::time::timeout(Duration::from_secs(2), budget.admit(BudgetedRequest::Concurrent));
    assert!(blocked.await.is_err());
    drop(permits);
    tokio::time::timeout(PATIENCE, budget.admit(BudgetedRequest::Concurrent)).await.unwrap();
}
