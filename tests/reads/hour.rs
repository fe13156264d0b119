//! An hour of polling against a registry that counts as Docker Hub does: a GET of a manifest is a pull, a HEAD is none
//! (<https://docs.docker.com/docker-hub/usage/pulls/>).

use std::time::Duration;

use futures_util::future::join_all;

use crate::{defaults, manifest, pass, registry::Registry, service};

/// A debug build takes long for 1,000 tags; a release build polls all of them.
const TAGS: usize = if cfg!(debug_assertions) { 50 } else { 1000 };
const CALLERS: usize = 10;
const INTERVAL: Duration = Duration::from_secs(30);
const POLLS: usize = 120;

#[tokio::test]
async fn an_hour_of_polling_costs_a_pull_for_each_tag_and_each_move() {
    let registry = Registry::start().await;
    let service = service(&registry, defaults()).await;
    let client = service.client().await;
    let mut numbers: Vec<u64> = (0..TAGS as u64).collect();
    for (tag, number) in numbers.iter().enumerate() {
        registry.push(&format!("v{tag}"), *number);
    }
    let (mut moves, mut reads) = (0, 0);
    for poll in 0..POLLS {
        // A few tags move between the polls.
        for tag in (0..TAGS).skip(poll % 7).step_by(TAGS / 2 + 1) {
            if poll > 0 {
                numbers[tag] += TAGS as u64;
                registry.push(&format!("v{tag}"), numbers[tag]);
                moves += 1;
            }
        }
        for (tag, number) in numbers.iter().enumerate() {
            let reference = format!("v{tag}");
            let calls = join_all((0..CALLERS).map(|_| manifest(&client, &reference, None))).await;
            for got in calls {
                assert_eq!(got.unwrap().number, *number, "{reference}, poll {poll}");
                reads += 1;
            }
        }
        pass(INTERVAL).await;
    }
    let (heads, gets) = registry.take_counts();
    println!("{reads} reads of {TAGS} tags, {moves} moves: {gets} pulls, {heads} HEADs");
    assert_eq!(gets, TAGS + moves, "a pull for each tag, and one for each tag that moved");
    // Callers who come while a HEAD runs share the next one.
    assert!(heads <= 2 * TAGS * POLLS, "{heads} HEADs");
}
