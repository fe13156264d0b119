//! The settings of the content store, made from its section of the configuration.

use std::path::PathBuf;

use crate::{
    config::{CacheStore, StorePlace, StoreUrl},
    reads::store::{BucketSettings, CredentialFiles, Location, Provider, Settings},
};

/// The settings; `None` if there is no store.
pub(super) fn settings(store: &CacheStore) -> Option<Settings> {
    let place = store.url.as_ref().map(StoreUrl::place)?;
    let bucket = |provider, bucket, prefix| {
        Location::Bucket(Box::new(BucketSettings {
            provider,
            bucket,
            prefix,
            spool_dir: store.spool_dir.clone(),
            endpoint: store.endpoint.as_ref().map(|url| url.as_url().to_string()),
            region: store.region.clone(),
            account: store.account.clone(),
            credential: credential(store),
            ca_file: store.ca_file.clone(),
            proxy: store.proxy.as_ref().map(|proxy| proxy.as_origin().ascii_serialization()),
        }))
    };
    let location = match place {
        StorePlace::Directory(path) => Location::Directory(path),
        StorePlace::S3(name, prefix) => bucket(Provider::S3, name, prefix),
        StorePlace::Gcs(name, prefix) => bucket(Provider::Gcs, name, prefix),
        StorePlace::Azure(name, prefix) => bucket(Provider::Azure, name, prefix),
    };
    Some(Settings { location, max_bytes: store.max_bytes, timeout: store.timeout })
}

fn credential(store: &CacheStore) -> Option<CredentialFiles> {
    let access_key = |(id, secret): (PathBuf, PathBuf)| CredentialFiles::AccessKey {
        id,
        secret,
        session_token: store.session_token_file.clone(),
    };
    let keys = store.access_key_id_file.clone().zip(store.secret_access_key_file.clone());
    keys.map(access_key)
        .or_else(|| store.account_key_file.clone().map(CredentialFiles::AccountKey))
        .or_else(|| store.service_account_file.clone().map(CredentialFiles::ServiceAccount))
}
