//! The blobs that are being fetched.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::fill::Fill;
use crate::{client::Blob, reads::keys::BlobKey};

/// A blob that was opened for all who asked at the same time.
#[derive(Debug, Clone)]
pub(in crate::reads) enum Opened {
    /// All of them follow one fetch.
    Shared(Arc<Fill>),
    /// Another replica has put it into the store.
    Stored,
    /// It is too large: the call that opened it reads it, and the others open their own.
    Alone(Arc<Mutex<Option<Blob>>>),
}

/// The blobs that are being fetched.
#[derive(Debug, Default)]
pub(in crate::reads) struct Fills(Mutex<HashMap<Arc<BlobKey>, Weak<Fill>>>);

impl Fills {
    /// The fetch of a blob that is under way.
    pub(super) fn get(&self, key: &Arc<BlobKey>) -> Option<Arc<Fill>> {
        self.lock().get(key).and_then(Weak::upgrade)
    }

    pub(super) fn insert(&self, key: &Arc<BlobKey>, fill: &Arc<Fill>) {
        let mut fills = self.lock();
        fills.retain(|_, fill| fill.strong_count() > 0);
        fills.insert(Arc::clone(key), Arc::downgrade(fill));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<BlobKey>, Weak<Fill>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
