//! The face of the engine: one method an operation.

use std::{sync::Arc, time::Duration};

use redis::{Value, cmd};

use super::{
    address::Address,
    budget::{Budget, BudgetLimits},
    counts::EngineCounts,
    documents::{Documents, Kept},
    keys::{Keys, to_hex},
    lease::{self, Lease},
    link::{Link, set},
    pauses::Pauses,
    settings::Settings,
    sign_in::SignIn,
};
use crate::client::{FleetSettings, SharedBudget, SharedPauses};

/// The engine that the replicas of a fleet share. Clones share one link to it.
#[derive(Debug, Clone)]
pub struct Engine {
    link: Arc<Link>,
    documents: Arc<Documents>,
    keys: Keys,
    /// The name of this replica: random, so that none has to be configured.
    replica: String,
    pauses: Arc<Pauses>,
}

impl Engine {
    /// Checks the settings and reads the files. The error names the key. The engine need not be there: it is connected to
    /// by the first operation, or by [`start`](Self::start).
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let address =
            Address::parse(&settings.url).map_err(|problem| format!("cache.shared.url: {problem}"))?;
        let keys =
            Keys::new(&settings.prefix).map_err(|problem| format!("cache.shared.prefix: {problem}"))?;
        let sign_in = SignIn::new(settings, address.tls)?;
        let replica = to_hex(&rand::random::<[u8; 16]>());
        let link = Arc::new(Link::new(address, sign_in, keys.probe(&replica)));
        let pauses = Arc::new(Pauses::new(Arc::clone(&link), keys.pauses()));
        let documents = Arc::new(Documents::new(Arc::clone(&link)));
        Ok(Self { link, documents, keys, replica, pauses })
    }

    /// Starts to connect, and to ask for pauses. Must be called within a runtime.
    pub fn start(&self) {
        self.link.start();
        self.pauses.start();
    }

    /// Connects, writes, reads and removes a key. The error says what failed.
    pub async fn check(&self) -> Result<(), String> {
        let session = self.link.open_session().await?;
        let key = self.keys.probe(&self.replica);
        let connection = session.connection(&key).map_err(|failure| failure.into_text())?;
        let steps = async {
            let say = |step: &'static str| {
                move |failure: super::failure::Failure| format!("{step}: {}", failure.into_text())
            };
            connection.send(&set(&key, b"check", Duration::from_secs(10))).await.map_err(say("writing"))?;
            let read = connection.send(cmd("GET").arg(&key)).await.map_err(say("reading"))?;
            if read != Value::BulkString(b"check".to_vec()) {
                return Err("reading: the engine does not have what was written".to_owned());
            }
            connection
                .send(cmd("EVAL").arg("return 1").arg(1).arg(&key))
                .await
                .map_err(say("running a script"))?;
            connection.send(cmd("DEL").arg(&key)).await.map_err(say("removing")).map(drop)
        };
        tokio::time::timeout(super::CONNECT_LIMIT, steps).await.map_err(|_| "no reply in time".to_owned())?
    }

    /// A document of at most `limit` bytes, and its age. `None` if there is none, or no engine.
    pub async fn get(&self, name: &str, limit: usize) -> Option<Kept> {
        self.documents.get(&self.keys.document(name), limit).await
    }

    /// Puts a document for `ttl`. One that is larger than [`MAX_DOCUMENT`](super::MAX_DOCUMENT) is not put.
    pub async fn put(&self, name: &str, value: &[u8], ttl: Duration) {
        self.documents.put(&self.keys.document(name), value, ttl).await;
    }

    /// Removes a document.
    pub async fn remove(&self, name: &str) {
        self.documents.remove(&self.keys.document(name)).await;
    }

    /// Asks for a lease.
    pub async fn lease(&self, name: &str) -> Lease {
        lease::acquire(&self.link, self.keys.lease(name)).await
    }

    /// The pauses of all registries.
    #[must_use]
    pub fn pauses(&self) -> Arc<dyn SharedPauses> {
        Arc::clone(&self.pauses) as _
    }

    /// The budget for a registry. To be made once for each registry: it has its own queue.
    #[must_use]
    pub fn budget(&self, registry: &str, limits: BudgetLimits) -> Arc<dyn SharedBudget> {
        let link = Arc::clone(&self.link);
        Arc::new(Budget::new(link, self.keys.budget(registry), self.replica.clone(), limits))
    }

    /// What the replicas share about a registry. Without limits there is no budget.
    #[must_use]
    pub fn registry(&self, registry: &str, limits: BudgetLimits) -> FleetSettings {
        let budget = (limits != BudgetLimits::default()).then(|| self.budget(registry, limits));
        FleetSettings { pauses: self.pauses(), budget }
    }

    /// Whether it is known that the engine is away.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.link.is_away()
    }

    /// What became of all operations so far.
    #[must_use]
    pub fn counts(&self) -> EngineCounts {
        self.link.counts()
    }
}
