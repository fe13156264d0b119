//! Random operations against a model: whatever happens in whatever order, no response is older than it may be, and nobody gets
//! what the registry no longer gives.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;
use tonic::Code;

use crate::{
    Chance, Got, defaults, manifest, pass,
    registry::{Registry, digest_of, manifest_with},
    service, stale_if_error,
};

const SEEDS: u64 = 12;
const STEPS: usize = 400;
const TAGS: u64 = 4;

/// How old responses may be, in seconds, as the configuration of one run says.
#[derive(Debug, Clone, Copy)]
struct Ages {
    tags: u64,
    absent: u64,
    access_check: u64,
    stale_if_error: u64,
}

/// What the registry would have answered, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    Number(u64),
    Absent,
    /// 403: the tag may not be read.
    Closed,
    /// 503.
    Away,
}

/// What was true of a reference, the latest last.
#[derive(Debug, Default)]
struct History(VecDeque<(Instant, Truth)>);

impl History {
    fn set(&mut self, truth: Truth) {
        if self.0.back().is_none_or(|(_, last)| *last != truth) {
            self.0.push_back((Instant::now(), truth));
        }
    }

    fn now(&self) -> Truth {
        self.0.back().unwrap().1
    }

    /// Whether this was true at some time in the last `age` seconds. One more second is for the test itself.
    fn within(&self, truth: Truth, age: u64) -> bool {
        let from = Instant::now().checked_sub(Duration::from_secs(age + 1));
        let end_of = |index: usize| self.0.get(index + 1).map(|(began, _)| *began);
        self.0.iter().enumerate().any(|(index, (_, was))| {
            *was == truth && end_of(index).is_none_or(|end| from.is_none_or(|from| end >= from))
        })
    }
}

struct Run {
    registry: Registry,
    chance: Chance,
    ages: Ages,
    next_number: u64,
    numbers: HashMap<u64, u64>,
    status: Option<u16>,
    tags: HashMap<u64, History>,
}

impl Run {
    /// Notes what is true now of each tag.
    fn note(&mut self) {
        for tag in 0..TAGS {
            let truth = match (self.status, self.numbers.get(&tag)) {
                (Some(403), _) => Truth::Closed,
                (Some(_), _) => Truth::Away,
                (None, Some(number)) => Truth::Number(*number),
                (None, None) => Truth::Absent,
            };
            self.tags.entry(tag).or_default().set(truth);
        }
    }

    fn change(&mut self) {
        let tag = self.chance.below(TAGS);
        match self.chance.below(10) {
            0..=4 => {
                self.next_number += 1;
                self.registry.push(&format!("v{tag}"), self.next_number);
                self.numbers.insert(tag, self.next_number);
            }
            5 => {
                self.registry.state().tags.remove(&format!("v{tag}"));
                self.numbers.remove(&tag);
            }
            6 => self.status = Some(503),
            7 => self.status = Some(403),
            _ => self.status = None,
        }
        self.registry.state().failing = self.status;
        self.note();
    }

    /// Whether the model allows this outcome of a read of a tag.
    fn allows(&self, tag: u64, max_age: Option<u64>, outcome: &Result<Got, tonic::Status>) -> bool {
        let (history, ages) = (&self.tags[&tag], self.ages);
        let allowed = max_age.unwrap_or(ages.tags).min(ages.access_check);
        match outcome {
            Ok(got) if got.source == "stale" => {
                let most = max_age.map_or(ages.stale_if_error, |max_age| max_age.min(ages.stale_if_error));
                history.now() == Truth::Away
                    && got.age <= most
                    && history.within(Truth::Number(got.number), got.age)
            }
            Ok(got) if got.source == "hit" => {
                allowed > 0 && got.age <= allowed && history.within(Truth::Number(got.number), got.age)
            }
            Ok(got) => history.now() == Truth::Number(got.number) && got.age == 0,
            Err(status) if status.code() == Code::NotFound => {
                let absent = max_age.map_or(ages.absent, |max_age| max_age.min(ages.absent));
                history.now() == Truth::Absent || (absent > 0 && history.within(Truth::Absent, absent))
            }
            Err(status) => match status.code() {
                Code::Unavailable => history.now() == Truth::Away,
                Code::PermissionDenied | Code::FailedPrecondition | Code::Unauthenticated => {
                    history.now() == Truth::Closed
                }
                _ => false,
            },
        }
    }
}

async fn run(seed: u64) -> HashMap<String, usize> {
    let mut chance = Chance(seed);
    let ages = Ages {
        tags: [0, 0, 10, 60][chance.below(4) as usize],
        absent: [0, 5][chance.below(2) as usize],
        access_check: [30, 300][chance.below(2) as usize],
        stale_if_error: [0, 120][chance.below(2) as usize],
    };
    let registry = Registry::start().await;
    let settings = rexd::reads::Settings {
        tags: Duration::from_secs(ages.tags),
        absent: Duration::from_secs(ages.absent),
        access_check: Duration::from_secs(ages.access_check),
        stale_if_error: stale_if_error(Duration::from_secs(ages.stale_if_error)),
        ..defaults()
    };
    let service = service(&registry, settings).await;
    let client = service.client().await;
    let mut run = Run {
        registry,
        chance,
        ages,
        next_number: 0,
        numbers: HashMap::new(),
        status: None,
        tags: HashMap::new(),
    };
    run.note();
    let mut sources = HashMap::new();
    for step in 0..STEPS {
        match run.chance.below(8) {
            0 | 1 => run.change(),
            2 => pass(Duration::from_secs(run.chance.below(40))).await,
            _ => {
                let tag = run.chance.below(TAGS);
                let max_age =
                    [None, None, Some(0), Some(5), Some(45), Some(1000)][run.chance.below(6) as usize];
                let outcome = manifest(&client, &format!("v{tag}"), max_age.map(Duration::from_secs)).await;
                assert!(
                    run.allows(tag, max_age, &outcome),
                    "seed {seed}, step {step}: v{tag}, max_age {max_age:?}, {ages:?}: {outcome:?}; {:?}; now {:?}",
                    run.tags[&tag],
                    Instant::now(),
                );
                let kind = outcome.map_or_else(|status| format!("{:?}", status.code()), |got| got.source);
                *sources.entry(kind).or_default() += 1;
            }
        }
    }
    // Content by digest is right at any time.
    let (number, status) = (run.next_number, run.status.take());
    if status.is_none() && number > 0 {
        let digest = digest_of(&manifest_with(number));
        assert_eq!(manifest(&client, &digest, None).await.unwrap().number, number, "seed {seed}");
    }
    sources
}

#[tokio::test]
async fn no_response_is_older_than_it_may_be_whatever_happens() {
    let mut sources: HashMap<String, usize> = HashMap::new();
    let seeds = std::env::var("REXD_TEST_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        for (source, count) in run(seed).await {
            *sources.entry(source).or_default() += count;
        }
    }
    println!("{sources:?}");
    for source in ["hit", "miss", "revalidated", "stale", "NotFound", "Unavailable"] {
        assert!(sources.get(source).is_some_and(|count| *count > 5), "{source} was not tried: {sources:?}");
    }
}
