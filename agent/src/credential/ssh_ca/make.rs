//! How a certificate is made.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{Certificate, LineEnding, PrivateKey};
use zeroize::Zeroizing;

use super::authority;
use super::error::SshCaError;
use crate::config::SshCaSpec;
use crate::credential::maker::{Ask, Made, MakeError, Maker, Owner, Working};
use crate::credential::{CredentialError, Handle, Material};
use crate::model::Secret;

/// How far a server's clock may be behind.
const SKEW: Duration = Duration::from_mins(1);
const LONGEST_PRINCIPAL: usize = 64;
/// Letters of an identity in a certificate's key id, which servers write to their logs.
const LONGEST_IDENTITY: usize = 128;

#[derive(Debug)]
struct SshCaMaker(SshCaSpec);

/// The source.
pub(in crate::credential) fn maker(spec: &SshCaSpec) -> Arc<dyn Maker> {
    Arc::new(SshCaMaker(spec.clone()))
}

impl Maker for SshCaMaker {
    fn check(&self) -> Working<'_, Result<(), CredentialError>> {
        Box::pin(async { authority::read(&self.0.ca).await.map(drop) })
    }

    fn plan(&self, _ask: &Ask) -> Option<Handle> {
        None
    }

    fn make<'a>(
        &'a self,
        ask: &'a Ask,
        _planned: Option<&'a Handle>,
    ) -> Working<'a, Result<Made, MakeError>> {
        Box::pin(async {
            let authority = authority::read(&self.0.ca).await.map_err(MakeError::before)?;
            let key = ephemeral();
            let now = SystemTime::now();
            let expires = now + self.0.ttl;
            let certificate = self
                .sign(&authority, &key, &ask.owner, now)
                .map_err(MakeError::before)?;
            // What a server's log says is found in the agent's by this number.
            tracing::info!(
                session = %ask.owner.session, serial = certificate.serial(), key_id = certificate.key_id(),
                principals = certificate.valid_principals().join(","), "an SSH certificate was signed"
            );
            let material = material(&key, &certificate).map_err(MakeError::before)?;
            Ok(Made {
                material,
                expires: Some(expires),
                handle: None,
            })
        })
    }
}

impl SshCaMaker {
    fn sign(
        &self,
        authority: &PrivateKey,
        key: &PrivateKey,
        owner: &Owner,
        now: SystemTime,
    ) -> Result<Certificate, SshCaError> {
        let seconds = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).map_err(|_| SshCaError::Clock)?;
            Ok(since.as_secs())
        };
        let (after, before) = (seconds(now - SKEW)?, seconds(now + self.0.ttl)?);
        let principals = principals(&self.0.principals, owner)?;
        self.build(key, after, before, owner, &principals)
            .and_then(|builder| builder.sign(authority))
            .map_err(SshCaError::Sign)
    }

    fn build(
        &self,
        key: &PrivateKey,
        after: u64,
        before: u64,
        owner: &Owner,
        principals: &[String],
    ) -> Result<Builder, ssh_key::Error> {
        let nonce: [u8; Builder::RECOMMENDED_NONCE_SIZE] = rand::random();
        let mut builder = Builder::new(nonce, key.public_key(), after, before)?;
        builder
            .cert_type(CertType::User)?
            .serial(rand::random())?
            .key_id(key_id(owner))?;
        for principal in principals {
            builder.valid_principal(principal)?;
        }
        if let Some(command) = &self.0.force_command {
            builder.critical_option("force-command", command)?;
        }
        if !self.0.source_address.is_empty() {
            let nets: Vec<String> = self.0.source_address.iter().map(ToString::to_string).collect();
            builder.critical_option("source-address", nets.join(","))?;
        }
        for extension in &self.0.extensions {
            builder.extension(*extension, "")?;
        }
        Ok(builder)
    }
}

/// A key of the session's own.
fn ephemeral() -> PrivateKey {
    let seed = Zeroizing::new(rand::random::<[u8; 32]>());
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

fn material(key: &PrivateKey, certificate: &Certificate) -> Result<Material, SshCaError> {
    debug_assert!(matches!(key.key_data(), KeypairData::Ed25519(_)));
    let mut private = key.to_openssh(LineEnding::LF).map_err(SshCaError::Sign)?;
    let certificate = certificate.to_openssh().map_err(SshCaError::Sign)?;
    Ok(Material::Key {
        private: Secret::new(std::mem::take(&mut *private).into_bytes()),
        certificate: Some(Secret::new(certificate.into_bytes())),
    })
}

/// The names that the policy's patterns give. At least one: a certificate without any would be good for every user.
fn principals(patterns: &[String], owner: &Owner) -> Result<Vec<String>, SshCaError> {
    let mut names = Vec::new();
    for pattern in patterns {
        let name = pattern
            .replace("{workload}", owner.workload.as_str())
            .replace("{service}", owner.service.as_str());
        if !is_principal(&name) {
            return Err(SshCaError::Principal(name));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(SshCaError::Principal(String::new()));
    }
    Ok(names)
}

fn is_principal(name: &str) -> bool {
    (1..=LONGEST_PRINCIPAL).contains(&name.len())
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b))
}

/// What the server writes to its log. Nobody's name in it can look like another part of the line.
fn key_id(owner: &Owner) -> String {
    let identity: String = owner
        .identity
        .chars()
        .take(LONGEST_IDENTITY)
        .map(|letter| match letter {
            letter if letter.is_ascii_alphanumeric() || "._:/@=+-".contains(letter) => letter,
            _ => '_',
        })
        .collect();
    format!(
        "tollgate:{}/{}:session={}:identity={identity}",
        owner.workload, owner.service, owner.session
    )
}
