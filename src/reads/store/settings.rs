//! Where blobs are kept, and within which limits.

use std::{path::PathBuf, time::Duration};

/// The settings of the content store.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where blobs are kept.
    pub location: Location,
    /// For a directory: the most bytes that it holds. For a bucket: the most bytes in `spool_dir`.
    pub max_bytes: u64,
    /// Limit for one access: to find a blob, to read or write one piece.
    pub timeout: Duration,
}

/// A directory or a bucket.
#[derive(Debug, Clone)]
pub enum Location {
    /// A directory that belongs to this process, or to several with the same user.
    Directory(PathBuf),
    /// A bucket. Others may write it.
    Bucket(Box<BucketSettings>),
}

/// How to reach a bucket. What is not set comes from the environment (`AWS_…`, `AZURE_…`, `GOOGLE_…`), as does the identity of
/// a workload.
#[derive(Debug, Clone)]
pub struct BucketSettings {
    /// Who serves it.
    pub provider: Provider,
    /// Its name; for Azure, the container's.
    pub bucket: String,
    /// Put before the name of each object.
    pub prefix: String,
    /// A directory for blobs on their way to the bucket. `None`: the system's directory for temporary files.
    pub spool_dir: Option<PathBuf>,
    /// The address of a server other than the provider's. Without TLS if it begins with `http://`.
    pub endpoint: Option<String>,
    /// The region. S3 only.
    pub region: Option<String>,
    /// The storage account. Azure only.
    pub account: Option<String>,
    /// The files of a credential. The environment's is not used then.
    pub credential: Option<CredentialFiles>,
    /// Certificates to trust besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// A forward proxy. Those of the environment are not used.
    pub proxy: Option<String>,
}

/// Who serves a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Amazon S3, and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

/// Files that hold a credential. They are read again when they change, except a service account's.
#[derive(Debug, Clone)]
pub enum CredentialFiles {
    /// S3: an access key.
    AccessKey {
        /// Holds the access key ID.
        id: PathBuf,
        /// Holds the secret access key.
        secret: PathBuf,
        /// Holds the session token of a temporary credential.
        session_token: Option<PathBuf>,
    },
    /// Azure: holds a key of the storage account.
    AccountKey(PathBuf),
    /// Google: the JSON file of a service account.
    ServiceAccount(PathBuf),
}
