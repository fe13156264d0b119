//! The client of a bucket, from its settings and the environment.

use std::{fs, path::Path, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, Certificate, ClientOptions, CredentialProvider, Error, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AwsCredential},
    azure::{AzureAccessKey, AzureCredential, MicrosoftAzureBuilder},
    gcp::GoogleCloudStorageBuilder,
};
use secrecy::{ExposeSecret as _, SecretString};

use super::settings::{BucketSettings, CredentialFiles, Provider};
use crate::{reloaded_file::ReloadedFile, secret};

/// For a whole request. Uploads take longer than the store's time limit for what callers wait for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Every host. A client that has a proxy of its own ignores the environment's; with this exclusion it has none that it uses.
const EVERY_HOST: &str = "*,0.0.0.0/0,::/0";
const NO_PROXY: &str = "http://127.0.0.1:9";

/// The client of a bucket. The error names the key.
pub(super) fn connect(settings: &BucketSettings, timeout: Duration) -> Result<Arc<dyn ObjectStore>, String> {
    let options = client_options(settings)?;
    // The bucket's name was checked with the URL; an error of the library can quote a value of the environment.
    let say = |_: Error| {
        "cache.store: the settings of the bucket, with those of the environment, are not valid".to_owned()
    };
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: Duration::from_millis(50), ..BackoffConfig::default() },
        max_retries: 3,
        retry_timeout: timeout,
    };
    Ok(match settings.provider {
        Provider::S3 => {
            let mut builder = AmazonS3Builder::from_env()
                .with_client_options(options)
                .with_retry(retry)
                .with_bucket_name(&settings.bucket);
            if let Some(region) = &settings.region {
                builder = builder.with_region(region);
            }
            if let Some(endpoint) = &settings.endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            if let Some(CredentialFiles::AccessKey { id, secret, session_token }) = &settings.credential {
                builder = builder.with_credentials(Arc::new(AccessKey {
                    id: open("access_key_id_file", id)?,
                    secret: open("secret_access_key_file", secret)?,
                    session_token: session_token
                        .as_deref()
                        .map(|file| open("session_token_file", file))
                        .transpose()?,
                }));
            }
            Arc::new(builder.build().map_err(say)?)
        }
        Provider::Gcs => {
            let mut builder = GoogleCloudStorageBuilder::from_env()
                .with_client_options(options)
                .with_retry(retry)
                .with_bucket_name(&settings.bucket);
            if let Some(endpoint) = &settings.endpoint {
                builder = builder.with_base_url(endpoint);
            }
            if let Some(CredentialFiles::ServiceAccount(file)) = &settings.credential {
                builder = builder.with_service_account_path(file.to_string_lossy());
            }
            Arc::new(builder.build().map_err(say)?)
        }
        Provider::Azure => {
            let mut builder = MicrosoftAzureBuilder::from_env()
                .with_client_options(options)
                .with_retry(retry)
                .with_container_name(&settings.bucket);
            if let Some(account) = &settings.account {
                builder = builder.with_account(account);
            }
            if let Some(endpoint) = &settings.endpoint {
                builder = builder.with_endpoint(endpoint.clone());
            }
            if let Some(CredentialFiles::AccountKey(file)) = &settings.credential {
                builder = builder.with_credentials(Arc::new(AccountKey(open("account_key_file", file)?)));
            }
            Arc::new(builder.build().map_err(say)?)
        }
    })
}

fn client_options(settings: &BucketSettings) -> Result<ClientOptions, String> {
    let mut options = ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_allow_http(settings.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")));
    options = match &settings.proxy {
        Some(proxy) => options.with_proxy_url(proxy),
        None => options.with_proxy_url(NO_PROXY).with_proxy_excludes(EVERY_HOST),
    };
    if let Some(file) = &settings.ca_file {
        let say = |problem: String| format!("cache.store.ca_file {}: {problem}", file.display());
        let pem = fs::read(file).map_err(|error| say(error.to_string()))?;
        let invalid = |_| say("not certificates in PEM".to_owned());
        let certificates = Certificate::from_pem_bundle(&pem).map_err(invalid)?;
        if certificates.is_empty() {
            return Err(say("holds no certificate in PEM".to_owned()));
        }
        for certificate in certificates {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

fn open(key: &str, file: &Path) -> Result<ReloadedFile<SecretString>, String> {
    ReloadedFile::open(file, secret::from_file).map_err(|problem| format!("cache.store.{key} {problem}"))
}

#[derive(Debug)]
struct AccessKey {
    id: ReloadedFile<SecretString>,
    secret: ReloadedFile<SecretString>,
    session_token: Option<ReloadedFile<SecretString>>,
}

#[async_trait::async_trait]
impl CredentialProvider for AccessKey {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>, Error> {
        let text = async |file: &ReloadedFile<SecretString>| file.get().await.expose_secret().to_owned();
        let token = match &self.session_token {
            Some(file) => Some(text(file).await),
            None => None,
        };
        Ok(Arc::new(AwsCredential {
            key_id: text(&self.id).await,
            secret_key: text(&self.secret).await,
            token,
        }))
    }
}

#[derive(Debug)]
struct AccountKey(ReloadedFile<SecretString>);

#[async_trait::async_trait]
impl CredentialProvider for AccountKey {
    type Credential = AzureCredential;

    async fn get_credential(&self) -> Result<Arc<AzureCredential>, Error> {
        let key = self.0.get().await;
        let key = AzureAccessKey::try_new(key.expose_secret()).map_err(|_| Error::Generic {
            store: "Azure",
            source: "account_key_file does not hold a key in Base64".into(),
        })?;
        Ok(Arc::new(AzureCredential::AccessKey(key)))
    }
}
