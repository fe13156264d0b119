//! A secret that a test can find again in every encoding it may have.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use tonic::Status;

use crate::{logs, support::wire::Request};

/// A random secret, and its encodings to look for.
#[derive(Clone)]
pub(crate) struct Canary {
    pub(crate) secret: String,
    forms: Vec<String>,
    /// The length of the log before the secret was made.
    born: usize,
}

impl Canary {
    pub(crate) fn new() -> Self {
        logs::capture();
        Self { born: logs::len(), ..Self::of(format!("canary-{:032x}", rand::random::<u128>())) }
    }

    /// Looks for a given secret.
    pub(crate) fn of(secret: String) -> Self {
        let mut forms = vec![secret.clone(), hex(secret.as_bytes())];
        // Base64 of a text that contains it: the secret may begin at any of the three bytes of a group, and its
        // neighbours change the first and the last characters.
        for before in 0..3 {
            let encoded = STANDARD_NO_PAD.encode([&vec![b'x'; before], secret.as_bytes()].concat());
            forms.push(encoded[4..encoded.len() - 4].to_owned());
        }
        // Some loggers print bytes as a list of numbers.
        forms.push(format!("{:?}", secret.as_bytes()).trim_matches(['[', ']']).to_owned());
        Self { secret, forms, born: 0 }
    }

    pub(crate) fn is_in(&self, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        self.forms.iter().any(|form| text.contains(form))
    }

    /// Whether it is in a request, anywhere in the message.
    pub(crate) fn is_in_request(&self, request: &Request) -> bool {
        self.is_in(&request.head.encode()) || self.is_in(&request.body)
    }

    /// Fails if the canary is in anything that this process has logged, or in a status that a caller got.
    #[track_caller]
    pub(crate) fn assert_not_leaked<'a>(&self, statuses: impl IntoIterator<Item = &'a Status>) {
        for status in statuses {
            assert!(!self.is_in(format!("{status:?}").as_bytes()), "{status:?}");
            assert!(!self.is_in(status.details()), "{status:?}");
        }
        let logged = logs::since(self.born);
        assert!(!logged.is_empty(), "nothing is logged, so nothing is checked");
        if self.is_in(logged.as_bytes()) {
            let line = logged.lines().find(|line| self.is_in(line.as_bytes()));
            panic!("the canary is in a log: {line:?}");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_canary_is_found_in_each_of_its_forms() {
    use base64::engine::general_purpose::STANDARD;
    let canary = Canary::new();
    let secret = &canary.secret;
    for around in ["", "u:", "us:", "use:", "user:"] {
        let encoded = STANDARD.encode(format!("{around}{secret}\n"));
        assert!(canary.is_in(format!("Basic {encoded}").as_bytes()), "{around:?}");
    }
    assert!(canary.is_in(format!("{:?}", secret.as_bytes()).as_bytes()));
    assert!(canary.is_in(hex(secret.as_bytes()).as_bytes()));
    assert!(!canary.is_in(b"canary-00000000000000000000000000000000"));
}
