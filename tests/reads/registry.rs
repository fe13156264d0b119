//! A registry of one repository whose tags move, and that counts its requests as Docker Hub counts pulls.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use rexd::oci::{Algorithm, Verifier};

use crate::{
    REPOSITORY,
    support::{
        scripted::{Reply, ScriptedRegistry},
        wire::Request,
    },
};

const MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// What the registry has, and what it was asked.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The manifest that each tag names.
    pub(crate) tags: HashMap<String, Vec<u8>>,
    /// Every manifest that was pushed, by digest.
    pub(crate) manifests: HashMap<String, Vec<u8>>,
    /// The status of every response.
    pub(crate) failing: Option<u16>,
    /// What a HEAD says instead of the digest; an empty text: nothing.
    pub(crate) claimed: Option<String>,
    /// The status of responses to HEAD.
    pub(crate) head_status: Option<u16>,
    /// Whether the header fields of responses say the digest.
    pub(crate) hides_digest: bool,
    pub(crate) heads: usize,
    /// What Docker Hub counts as pulls.
    pub(crate) gets: usize,
    pub(crate) lists: usize,
}

pub(crate) struct Registry {
    scripted: ScriptedRegistry,
    state: Arc<Mutex<State>>,
}

/// A manifest with a number, so that a test knows which one it got.
pub(crate) fn manifest_with(number: u64) -> Vec<u8> {
    let digest = digest_of(b"{}");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MEDIA_TYPE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}},"layers":[],"annotations":{{"number":"{number}"}}}}"#
    )
    .into_bytes()
}

pub(crate) fn number_of(manifest: &[u8]) -> u64 {
    let document: serde_json::Value = serde_json::from_slice(manifest).unwrap();
    document["annotations"]["number"].as_str().unwrap().parse().unwrap()
}

pub(crate) fn digest_of(content: &[u8]) -> String {
    Verifier::digest_of(Algorithm::Sha256, content).to_string()
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let (scripted, state) = (ScriptedRegistry::start().await, Arc::new(Mutex::new(State::default())));
        let shared = Arc::clone(&state);
        scripted.otherwise(move |request| Some(shared.lock().unwrap().respond(request)));
        Self { scripted, state }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.scripted.address()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Lets the tag name the manifest with this number. Returns its digest.
    pub(crate) fn push(&self, tag: &str, number: u64) -> String {
        let (content, mut state) = (manifest_with(number), self.state());
        let digest = digest_of(&content);
        state.manifests.insert(digest.clone(), content.clone());
        state.tags.insert(tag.to_owned(), content);
        digest
    }

    /// HEAD and GET requests for manifests since the last call.
    pub(crate) fn take_counts(&self) -> (usize, usize) {
        let mut state = self.state();
        (std::mem::take(&mut state.heads), std::mem::take(&mut state.gets))
    }
}

impl State {
    fn respond(&mut self, request: &Request) -> Reply {
        let manifests = format!("/v2/{REPOSITORY}/manifests/");
        let is_head = request.method == "HEAD";
        let Some(reference) = request.target.strip_prefix(&manifests) else {
            return self.respond_list(request);
        };
        *(if is_head { &mut self.heads } else { &mut self.gets }) += 1;
        if let Some(status) = self.failing.or(self.head_status.filter(|_| is_head)) {
            return Reply::status(status);
        }
        let Some(content) = self.tags.get(reference).or_else(|| self.manifests.get(reference)) else {
            let error = serde_json::json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]});
            return Reply::status(404).body(error.to_string());
        };
        let digest = match self.claimed.clone().filter(|_| is_head) {
            Some(claimed) => claimed,
            None if self.hides_digest => String::new(),
            None => digest_of(content),
        };
        let mut reply = Reply::status(200).header("Content-Type", MEDIA_TYPE).body(content.clone());
        if !digest.is_empty() {
            reply = reply.header("Docker-Content-Digest", digest);
        }
        reply
    }

    fn respond_list(&mut self, request: &Request) -> Reply {
        self.lists += 1;
        if let Some(status) = self.failing {
            return Reply::status(status);
        }
        assert!(request.target.starts_with(&format!("/v2/{REPOSITORY}/tags/list")), "{}", request.target);
        let mut tags: Vec<&String> = self.tags.keys().collect();
        tags.sort();
        Reply::json(&serde_json::json!({"name": REPOSITORY, "tags": tags}))
    }
}

/// Longer than a request of these tests takes.
pub(crate) const MOMENT: Duration = Duration::from_millis(20);
