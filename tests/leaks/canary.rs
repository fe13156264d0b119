//! A secret that can be found again, in every form it may have taken on the way.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use tonic::Status;

use crate::{logs, support::wire::Request};

/// A random secret, and the forms to look for.
#[derive(Clone)]
pub(crate) struct Canary {
    pub(crate) secret: String,
    forms: Vec<String>,
    /// How much was logged before it was there.
    born: usize,
}

impl Canary {
    pub(crate) fn new() -> Self {
        logs::capture();
        Self { born: logs::len(), ..Self::of(format!("canary-{:032x}", rand::random::<u128>())) }
    }

    /// Looks for a secret that somebody else made.
    pub(crate) fn of(secret: String) -> Self {
        let mut forms = vec![secret.clone(), hex(secret.as_bytes())];
        // Base64 of any text around it: it may begin at each of the three places of a group, whose neighbours blur the
        // first and the last characters.
        for before in 0..3 {
            let encoded = STANDARD_NO_PAD.encode([&vec![b'x'; before], secret.as_bytes()].concat());
            forms.push(encoded[4..encoded.len() - 4].to_owned());
        }
        // How some loggers print bytes: as a list of numbers.
        forms.push(format!("{:?}", secret.as_bytes()).trim_matches(['[', ']']).to_owned());
        Self { secret, forms, born: 0 }
    }

    pub(crate) fn is_in(&self, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        self.forms.iter().any(|form| text.contains(form))
    }

    /// Whether a request brought it, wherever in the message.
    pub(crate) fn came_with(&self, request: &Request) -> bool {
        self.is_in(&request.head.encode()) || self.is_in(&request.body)
    }

    /// Fails if the canary is in anything that this process logged so far, or in what a caller was told.
    #[track_caller]
    pub(crate) fn assert_untold<'a>(&self, statuses: impl IntoIterator<Item = &'a Status>) {
        for status in statuses {
            assert!(!self.is_in(format!("{status:?}").as_bytes()), "{status:?}");
            assert!(!self.is_in(status.details()), "{status:?}");
        }
        let logged = logs::since(self.born);
        assert!(!logged.is_empty(), "nothing is logged, so nothing is looked at");
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
