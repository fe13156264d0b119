//! The directory or the bucket, and whether it works.

use std::{fs::File, sync::Arc};

use super::{
    bucket::Bucket,
    directory::{Directory, Opened},
    failure::Failure,
    footer::{Damage, Footer},
    health::Health,
    pieces::Pieces,
};
use crate::oci::Digest;

/// Where blobs are kept.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) place: Place,
    /// Whether blobs can be read.
    pub(super) reading: Health,
    /// Whether blobs can be added.
    pub(super) writing: Health,
}

#[derive(Debug)]
pub(super) enum Place {
    Directory(Arc<Directory>),
    /// A bucket, and the directory of blobs on their way to it.
    Bucket {
        bucket: Arc<Bucket>,
        pieces: Pieces,
        spool: Arc<Directory>,
    },
}

/// A kept blob that was found. A bucket's blob has no file.
pub(super) type Found = (Option<File>, Footer);

impl Backend {
    pub(super) fn new(place: Place) -> Self {
        let (reading, writing) = match place {
            Place::Directory(_) => {
                ("the content store's directory", "writing to the content store's directory")
            }
            Place::Bucket { .. } => ("the content store's bucket", "writing to the content store's bucket"),
        };
        Self { place, reading: Health::new(reading), writing: Health::new(writing) }
    }

    /// The directory in which blobs are written.
    pub(super) fn staging(&self) -> &Arc<Directory> {
        match &self.place {
            Place::Directory(directory) => directory,
            Place::Bucket { spool, .. } => spool,
        }
    }

    pub(super) async fn find(&self, digest: &Digest) -> Result<Option<Found>, Failure> {
        match &self.place {
            Place::Directory(directory) => {
                let (files, wanted) = (Arc::clone(directory), digest.clone());
                match directory.disk.run(move || files.open_blob(&wanted)).await? {
                    None => Ok(None),
                    Some(Opened::Whole(file, footer)) => Ok(Some((Some(file), footer))),
                    Some(Opened::Damaged(damage)) => Err(damage.into()),
                }
            }
            Place::Bucket { bucket, .. } => Ok(bucket.footer(digest).await?.map(|footer| (None, footer))),
        }
    }

    /// Deletes a blob that is not what it should be.
    pub(super) async fn drop_damaged(&self, digest: &Digest, damage: Damage) {
        tracing::warn!(%digest, %damage, "a kept blob is damaged; it is deleted");
        match &self.place {
            Place::Directory(directory) => {
                let (files, digest) = (Arc::clone(directory), digest.clone());
                let removed = directory.disk.run(move || {
                    files.remove(&digest);
                    Ok(())
                });
                // What went wrong is logged where it did, and the damage is noticed again.
                let _ = removed.await;
            }
            Place::Bucket { bucket, pieces, .. } => {
                pieces.forget(digest).await;
                if let Err(failure) = bucket.delete(digest).await {
                    tracing::warn!(%digest, %failure, "a damaged blob cannot be deleted");
                }
            }
        }
    }
}
