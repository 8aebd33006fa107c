//! Where records are shipped to.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;

use super::ShipError;
use crate::model::Secret;

/// Options of an S3 target; the names are those of the `AWS_…` variables. What is left out comes from the instance's
/// or container's own credentials.
#[derive(Clone, Debug, Default)]
pub struct S3Options {
    /// `AWS_ENDPOINT_URL`: another server than Amazon's.
    pub endpoint: Option<String>,
    /// `AWS_REGION`, `us-east-1` if left out.
    pub region: Option<String>,
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Option<Secret>,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<Secret>,
    /// `AWS_ALLOW_HTTP`: speak plain HTTP to the endpoint. For a server on the same host.
    pub allow_http: bool,
}

/// An object store, and the prefix under which records go.
#[derive(Clone)]
pub struct ShipTarget {
    url: String,
    store: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
}

impl ShipTarget {
    /// Parses `file:///directory` (made if it does not exist) or `s3://bucket/prefix`.
    ///
    /// # Errors
    /// The URL is of another kind, or an option does not fit.
    pub fn parse(url: &str, s3: &S3Options) -> Result<Self, ShipError> {
        let refused = |reason: String| ShipError::Target {
            url: url.to_owned(),
            reason,
        };
        if let Some(path) = url.strip_prefix("file://") {
            let path = PathBuf::from(path);
            if !path.is_absolute() {
                return Err(refused("the directory is not absolute".to_owned()));
            }
            std::fs::create_dir_all(&path)
                .map_err(|error| refused(format!("the directory cannot be made: {error}")))?;
            let store = LocalFileSystem::new_with_prefix(&path)
                .map_err(|error| refused(error.to_string()))?
                .with_fsync(true);
            return Ok(Self {
                url: url.to_owned(),
                store: Arc::new(store),
                prefix: ObjectPath::default(),
            });
        }
        let Some(rest) = url.strip_prefix("s3://") else {
            return Err(refused("it is of no kind that is known".to_owned()));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(refused("it names no bucket".to_owned()));
        }
        let prefix =
            ObjectPath::parse(prefix.trim_end_matches('/')).map_err(|error| refused(error.to_string()))?;
        let store = s3.store(bucket).map_err(refused)?;
        Ok(Self {
            url: url.to_owned(),
            store: Arc::new(store),
            prefix,
        })
    }

    /// The URL, as it was given. It holds no secret.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The object for `name`, whose parts are separated by slashes.
    pub(super) fn object(&self, name: &str) -> ObjectPath {
        name.split('/').fold(self.prefix.clone(), ObjectPath::join)
    }
}

impl S3Options {
    fn store(&self, bucket: &str) -> Result<object_store::aws::AmazonS3, String> {
        let text = |secret: &Secret, name: &str| {
            std::str::from_utf8(secret.expose())
                .map(str::to_owned)
                .map_err(|_| format!("{name} is not text"))
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(self.region.as_deref().unwrap_or("us-east-1"));
        if let Some(endpoint) = &self.endpoint {
            if endpoint.starts_with("http://") && !self.allow_http {
                return Err(format!(
                    "the endpoint {endpoint} is plain HTTP, and `allow_http` is not set"
                ));
            }
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(id) = &self.access_key_id {
            builder = builder.with_access_key_id(id);
        }
        if let Some(secret) = &self.secret_access_key {
            builder = builder.with_secret_access_key(text(secret, "the secret access key")?);
        }
        if let Some(token) = &self.session_token {
            builder = builder.with_token(text(token, "the session token")?);
        }
        builder
            .with_allow_http(self.allow_http)
            .build()
            .map_err(|error| error.to_string())
    }
}

impl fmt::Debug for ShipTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ShipTarget").field(&self.url).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_are_no_targets_are_refused_with_a_reason() {
        let plain = S3Options {
            endpoint: Some("http://10.0.0.1:9000".into()),
            ..S3Options::default()
        };
        for (url, options, reason) in [
            ("ftp://x", &S3Options::default(), "no kind that is known"),
            ("file://relative", &S3Options::default(), "not absolute"),
            ("s3:///prefix", &S3Options::default(), "no bucket"),
            ("s3://bucket/a//b", &S3Options::default(), "empty path segment"),
            ("s3://bucket", &plain, "plain HTTP"),
        ] {
            let error = ShipTarget::parse(url, options).unwrap_err().to_string();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }

    #[test]
    fn names_go_under_the_prefix() {
        let target = ShipTarget::parse("s3://bucket/hosts/build-7/", &S3Options::default()).unwrap();
        assert_eq!(
            target.object("ledger/0.tgl").as_ref(),
            "hosts/build-7/ledger/0.tgl"
        );
    }
}
