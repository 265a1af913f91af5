//! Where a shared cache is, and the client that speaks to it.

use crate::cache::remote::error::{NoPlace, Unusable};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as S3Key};
use object_store::azure::{AzureConfigKey as AzureKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey as GoogleKey};
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Place;
use object_store::{ClientConfigKey, ObjectStore, ObjectStoreScheme, RetryConfig};
use reqwest::Url;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A cache that does not answer is given up after this time.
const PATIENCE: Duration = Duration::from_secs(20);
/// One part of an object may take so long: 8 MiB over a slow line, beside two others.
const PART_TIME: &str = "300s";
/// Tries after the first.
const RETRIES: usize = 4;

/// A folder or an address.
#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    Folder(PathBuf),
    Address(Url),
}

impl Location {
    /// Reads a path (taken from `base`) or a URL. Nothing is contacted.
    pub fn parse(text: &str, base: &Path) -> Result<Self, NoPlace> {
        if !text.contains("://") {
            return Ok(Self::Folder(base.join(text)));
        }
        let url = Url::parse(text).map_err(|e| NoPlace::Url(text.into(), e.to_string()))?;
        match ObjectStoreScheme::parse(&url) {
            Ok((ObjectStoreScheme::Local, _)) => {
                url.to_file_path().map(Self::Folder).map_err(|()| NoPlace::Folder(text.into()))
            }
            Ok((ObjectStoreScheme::Memory, _)) | Err(_) => Err(NoPlace::Scheme(text.into())),
            Ok(_) => Ok(Self::Address(url)),
        }
    }

    /// The store behind it, and where in it the cache begins. Credentials come from the environment.
    pub fn open(&self) -> Result<(Arc<dyn ObjectStore>, Place), Unusable> {
        match self {
            Self::Folder(folder) => {
                if !folder.is_dir() {
                    // Making it would fill the local disk whenever a shared one is not mounted.
                    return Err(Unusable::NoFolder(folder.clone()));
                }
                let store = LocalFileSystem::new_with_prefix(folder)?;
                Ok((Arc::new(store), Place::default()))
            }
            Self::Address(url) => Ok(remote(url)?),
        }
    }
}

fn remote(url: &Url) -> object_store::Result<(Arc<dyn ObjectStore>, Place)> {
    // A second installation of the same provider is refused, and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (scheme, place) = ObjectStoreScheme::parse(url)?;
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: PATIENCE, ..RetryConfig::default() };
    let (text, time) = (url.to_string(), ClientConfigKey::Timeout);
    let store: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => {
            let builder = AmazonS3Builder::from_env().with_config(S3Key::Client(time), PART_TIME);
            Arc::new(builder.with_url(text).with_retry(retry).build()?)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            let builder = GoogleCloudStorageBuilder::from_env();
            let builder = builder.with_config(GoogleKey::Client(time), PART_TIME);
            Arc::new(builder.with_url(text).with_retry(retry).build()?)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let builder = MicrosoftAzureBuilder::from_env().with_config(AzureKey::Client(time), PART_TIME);
            Arc::new(builder.with_url(text).with_retry(retry).build()?)
        }
        _ => {
            let plain = (url.scheme() == "http").to_string();
            let builder = HttpBuilder::new().with_config(ClientConfigKey::AllowHttp, plain);
            let builder = builder.with_config(time, PART_TIME);
            let mut host = url.clone();
            host.set_path("");
            Arc::new(builder.with_url(host).with_retry(retry).build()?)
        }
    };
    Ok((store, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_addresses() {
        let base = Path::new("/study");
        let parse = |text: &str| Location::parse(text, base);
        assert_eq!(parse("../cache"), Ok(Location::Folder("/study/../cache".into())));
        assert_eq!(parse("file:///mnt/cache"), Ok(Location::Folder("/mnt/cache".into())));
        assert!(matches!(parse("s3://bucket/cache"), Ok(Location::Address(_))));
        assert!(parse("ftp://x/y").unwrap_err().to_string().contains("no place for a cache"));
        assert!(parse("memory:///").is_err() && parse("s3://").is_err());
    }
}
