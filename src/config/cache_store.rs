//! `cache.store`: where blobs are kept.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::address::{RegistryUrl, WebOrigin};
use super::duration;

/// A directory or a bucket that keeps blobs. Without `url`, blobs are kept only in memory.
///
/// Credentials of a bucket come from the files that are named here, or else from the environment, in the ways of the provider's
/// own tools: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a web identity or the instance's role; AZURE_...; GOOGLE_... .
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheStore {
    /// Where: file:///var/cache/rexd, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX. The prefix may be absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<StoreUrl>,
    /// Most bytes of a directory; those that were not used for the longest time are deleted for new ones. For a bucket, most
    /// bytes in `spool_dir`. The bucket's own lifecycle rules delete its objects.
    #[schemars(range(min = 1_048_576, max = 1_125_899_906_842_624_u64))]
    pub max_bytes: u64,
    /// Longest wait for the directory or the bucket: to find a blob, to read or write 1 MiB of it. After that, the registry is
    /// asked, and the store not again for up to 30s.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub timeout: Duration,
    /// Directory for blobs on their way to a bucket. Absent: rexd-spool in the system's directory for temporary files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool_dir: Option<PathBuf>,
    /// Address of the bucket's server, for servers other than the provider's own. Absent: the provider's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<RegistryUrl>,
    /// Region of an s3 bucket. Absent: AWS_REGION, or us-east-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Storage account of an az container. Absent: AZURE_STORAGE_ACCOUNT_NAME.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// File with the access key ID for an s3 bucket. Goes with `secret_access_key_file`. Read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "file"))]
    pub access_key_id_file: Option<PathBuf>,
    /// File with the secret access key for an s3 bucket. Read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "file"))]
    pub secret_access_key_file: Option<PathBuf>,
    /// File with the session token of a temporary access key. Read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "file"))]
    pub session_token_file: Option<PathBuf>,
    /// File with a key of the storage account, in Base64. Read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "file"))]
    pub account_key_file: Option<PathBuf>,
    /// JSON file of a Google service account. Read at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "file"))]
    pub service_account_file: Option<PathBuf>,
    /// PEM file with certificate authorities to trust for the bucket's server, besides the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "file"))]
    pub ca_file: Option<PathBuf>,
    /// HTTP proxy for the bucket, scheme, host and port. Proxy variables of the environment are not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<WebOrigin>,
}

impl Default for CacheStore {
    fn default() -> Self {
        Self {
            url: None,
            // Some hundred images, and half of the smallest common volume.
            max_bytes: 10 * 1024 * 1024 * 1024,
            // A disk or a bucket nearby takes a hundredth of that for 1 MiB.
            timeout: Duration::from_secs(1),
            spool_dir: None,
            endpoint: None,
            region: None,
            account: None,
            access_key_id_file: None,
            secret_access_key_file: None,
            session_token_file: None,
            account_key_file: None,
            service_account_file: None,
            ca_file: None,
            proxy: None,
        }
    }
}

impl CacheStore {
    /// The keys that do not go with the others, and why.
    #[must_use]
    pub fn conflicts(&self) -> Vec<(&'static str, String)> {
        let (id, secret) = (self.access_key_id_file.is_some(), self.secret_access_key_file.is_some());
        let pairs = [
            ("access_key_id_file", id, "secret_access_key_file", secret),
            ("secret_access_key_file", secret, "access_key_id_file", id),
            ("session_token_file", self.session_token_file.is_some(), "access_key_id_file", id),
        ];
        let incomplete = pairs
            .into_iter()
            .filter(|(_, present, _, other_present)| *present && !other_present)
            .map(|(key, _, other, _)| (key, format!("needs {other} too")));
        let place = self.url.as_ref().map(StoreUrl::place);
        let scheme = place.as_ref().map(StorePlace::scheme);
        let unused = self.keys_of_buckets().into_iter().filter_map(|(key, present, schemes)| {
            let fits = scheme.is_some_and(|scheme| schemes.contains(&scheme));
            let names: Vec<String> = schemes.iter().map(|scheme| format!("{scheme}://")).collect();
            (present && !fits).then(|| (key, format!("needs a url that begins with {}", names.join(" or "))))
        });
        incomplete.chain(unused).collect()
    }

    /// The keys that only some schemes have: whether each is present, and which schemes.
    fn keys_of_buckets(&self) -> [(&'static str, bool, &'static [&'static str]); 11] {
        const BUCKETS: &[&str] = &["s3", "gs", "az"];
        [
            ("spool_dir", self.spool_dir.is_some(), BUCKETS),
            ("endpoint", self.endpoint.is_some(), BUCKETS),
            ("ca_file", self.ca_file.is_some(), BUCKETS),
            ("proxy", self.proxy.is_some(), BUCKETS),
            ("region", self.region.is_some(), &["s3"]),
            ("access_key_id_file", self.access_key_id_file.is_some(), &["s3"]),
            ("secret_access_key_file", self.secret_access_key_file.is_some(), &["s3"]),
            ("session_token_file", self.session_token_file.is_some(), &["s3"]),
            ("account", self.account.is_some(), &["az"]),
            ("account_key_file", self.account_key_file.is_some(), &["az"]),
            ("service_account_file", self.service_account_file.is_some(), &["gs"]),
        ]
    }
}

/// The URL of a directory or of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "store-url", "pattern" = "^(file|s3|gs|az)://"))]
pub struct StoreUrl {
    text: String,
    place: StorePlace,
}

/// What a [`StoreUrl`] names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePlace {
    /// `file`: an absolute path.
    Directory(PathBuf),
    /// `s3`: a bucket and a prefix, which may be empty.
    S3(String, String),
    /// `gs`: a bucket and a prefix, which may be empty.
    Gcs(String, String),
    /// `az`: a container and a prefix, which may be empty.
    Azure(String, String),
}

impl StorePlace {
    fn scheme(&self) -> &'static str {
        match self {
            Self::Directory(_) => "file",
            Self::S3(..) => "s3",
            Self::Gcs(..) => "gs",
            Self::Azure(..) => "az",
        }
    }
}

impl StoreUrl {
    /// What it names.
    #[must_use]
    pub fn place(&self) -> StorePlace {
        self.place.clone()
    }
}

impl TryFrom<String> for StoreUrl {
    /// Why a text is no such URL, without the text, which may contain a password.
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let kinds = "must begin with file:///, s3://, gs:// or az://";
        let (scheme, rest) = text.split_once("://").ok_or(kinds)?;
        let place = match scheme {
            "file" => StorePlace::Directory(directory(&text)?),
            "s3" | "gs" | "az" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                check_bucket(bucket)?;
                check_prefix(prefix)?;
                let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
                match scheme {
                    "s3" => StorePlace::S3(bucket, prefix),
                    "gs" => StorePlace::Gcs(bucket, prefix),
                    _ => StorePlace::Azure(bucket, prefix),
                }
            }
            _ => return Err(kinds.to_owned()),
        };
        Ok(Self { text, place })
    }
}

impl From<StoreUrl> for String {
    fn from(url: StoreUrl) -> Self {
        url.text
    }
}

fn directory(text: &str) -> Result<PathBuf, String> {
    let refusal = "must name a directory by its absolute path, such as file:///var/cache/rexd";
    let url = Url::parse(text).map_err(|_| refusal)?;
    if url.host_str().is_some() || url.query().is_some() || url.fragment().is_some() || url.path() == "/" {
        return Err(refusal.to_owned());
    }
    url.to_file_path().map_err(|()| refusal.to_owned())
}

/// The characters of all three providers' names. They check the rest.
fn check_bucket(name: &str) -> Result<(), String> {
    let is_name = (3..=222).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'));
    if is_name { Ok(()) } else { Err("must have the name of a bucket after ://, in lower case".to_owned()) }
}

/// The characters that S3 calls safe.
fn check_prefix(prefix: &str) -> Result<(), String> {
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!-_.*'()".contains(&byte))
    };
    if prefix.is_empty() || (prefix.len() <= 512 && prefix.split('/').all(is_part)) {
        return Ok(());
    }
    Err("must have a prefix of letters, digits, -, _ and . between slashes, without empty parts".to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn place(text: &str) -> Result<StorePlace, String> {
        StoreUrl::try_from(text.to_owned()).map(|url| url.place())
    }

    #[test]
    fn urls_name_directories_and_buckets() {
        let (bucket, prefix) = ("cache".to_owned(), "a/b".to_owned());
        assert_eq!(place("file:///var/cache/rexd"), Ok(StorePlace::Directory("/var/cache/rexd".into())));
        assert_eq!(place("file:///a%20b/"), Ok(StorePlace::Directory("/a b/".into())));
        assert_eq!(place("s3://cache"), Ok(StorePlace::S3(bucket.clone(), String::new())));
        assert_eq!(place("s3://cache/"), Ok(StorePlace::S3(bucket.clone(), String::new())));
        assert_eq!(place("gs://cache/a/b/"), Ok(StorePlace::Gcs(bucket.clone(), prefix.clone())));
        assert_eq!(place("az://cache/a/b"), Ok(StorePlace::Azure(bucket, prefix)));
    }

    #[test]
    fn other_urls_are_refused_without_quoting_them() {
        for text in [
            "",
            "/var/cache/rexd",
            "file:/var",
            "file://var/cache",
            "file:///",
            "file:///x?canary",
            "http://canary/x",
            "s3://",
            "s3:///a",
            "s3://user:canary@bucket",
            "s3://Bucket",
            "s3://bucket?canary=1",
            "s3://bucket/a//b",
            "s3://bucket/../canary",
            "s3://bucket/a%2fcanary",
            "s3://bucket/a b",
        ] {
            let problem = place(text).unwrap_err();
            assert!(problem.starts_with("must ") && !problem.contains("canary"), "{text}: {problem}");
        }
    }

    #[test]
    fn keys_that_do_not_go_together_are_named() {
        let store = |url: &str| CacheStore {
            url: Some(StoreUrl::try_from(url.to_owned()).unwrap()),
            access_key_id_file: Some("id".into()),
            ..CacheStore::default()
        };
        let keys = |store: CacheStore| store.conflicts().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(store("s3://bucket")), ["access_key_id_file"]);
        let secret_access_key_file = Some("secret".into());
        assert_eq!(keys(CacheStore { secret_access_key_file, ..store("s3://bucket") }), [""; 0]);
        assert_eq!(
            keys(CacheStore { region: Some("here".to_owned()), ..store("file:///cache") }),
            ["access_key_id_file", "region", "access_key_id_file"]
        );
        assert_eq!(keys(CacheStore { account: Some("me".to_owned()), ..CacheStore::default() }), ["account"]);
    }
}
