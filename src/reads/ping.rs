//! Ping: coalesced, and never kept, because it asks whether the registry responds now.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;

use super::{Reads, documents::ManifestView, flight::Join};
use crate::{
    client::{CallContext, PingResponse},
    error::RexError,
    oci::Registry,
};

impl<V: ManifestView> Reads<V> {
    /// Checks that a registry responds and accepts the sign-in.
    pub async fn ping(&self, registry: &Registry, call: &CallContext) -> Result<PingResponse, RexError> {
        let read = |call: Arc<CallContext>| {
            let (reads, registry) = (self.clone(), registry.clone());
            async move { reads.0.client.ping(&registry, &call).await }.boxed()
        };
        let refusal = || self.0.client.pause(registry, None);
        self.0.pings.join(registry, Join::Since(Duration::ZERO), call, refusal, read).await.0
    }
}
