//! Secrets in the environment and on the command line of a process.
//!
//! What gives a secret away is its name (`PGPASSWORD`, `--token`) or its looks. Known limits: only the beginning of a long
//! environment is looked at ([`MOST_BYTES`]); of one process at most [`MOST`] secrets are noted; a variable that names a file
//! is none, and the file is not read.

use std::collections::BTreeSet;

use crate::config::{Detector, Glob};
use crate::identity::{Interior, Looks, secret_variable, secrets_by_looks, secrets_in_arguments};
use crate::mask;
use crate::model::Secret;

use super::sighting::{SecretKind, SeenAt, Sighting};

/// Secrets of one process that are noted.
pub const MOST: usize = 16;
/// Bytes of an environment that are looked at.
pub const MOST_BYTES: usize = 256 * 1024;

/// The secrets in what was read of a process. `ignored`: names of variables that are not looked at.
pub fn sightings(interior: &Interior, ignored: &[Glob]) -> Vec<Sighting> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut add = |kind, at: &SeenAt, secret: &[u8]| {
        // Two patterns may see the same: it is one secret. Only a hash of it is compared.
        let known = (at.clone(), *blake3::hash(secret).as_bytes());
        if found.len() < MOST && !secret.is_empty() && seen.insert(known) {
            found.push(Sighting {
                kind,
                at: at.clone(),
                secret: Secret::new(secret.to_vec()),
            });
        }
    };
    for (number, argument, places) in secrets_in_arguments(interior.command_line()) {
        let at = SeenAt::Argument { number };
        for place in places {
            add(of_looks(place.looks), &at, &place.secret(&argument));
        }
        for (kind, secret) in detected(argument.as_bytes()) {
            add(kind, &at, secret);
        }
    }
    let environment = interior.environment();
    let environment = environment.get(..MOST_BYTES).unwrap_or(environment);
    for entry in environment.split(|byte| *byte == 0) {
        // What is no text is looked at as far as it is.
        let entry = entry.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let Some((name, value)) = entry.split_once('=') else {
            continue;
        };
        if ignored.iter().any(|glob| glob.matches(name)) {
            continue;
        }
        let at = SeenAt::Variable {
            name: name.to_owned(),
        };
        let hits = detected(value.as_bytes());
        if let Some(looks) = secret_variable(name, value) {
            // All of it is the secret; what it looks like says more than the name.
            let kind = hits.first().map_or_else(|| of_looks(looks), |(kind, _)| *kind);
            add(kind, &at, value.as_bytes());
            continue;
        }
        for place in secrets_by_looks(value) {
            add(of_looks(place.looks), &at, &place.secret(value));
        }
        for (kind, secret) in hits {
            add(kind, &at, secret);
        }
    }
    found
}

fn detected(text: &[u8]) -> Vec<(SecretKind, &[u8])> {
    let hits = mask::secrets(text).into_iter();
    hits.filter_map(|(detector, range)| Some((of_detector(detector)?, text.get(range)?)))
        .collect()
}

fn of_detector(detector: Detector) -> Option<SecretKind> {
    match detector {
        Detector::Jwt => Some(SecretKind::Token),
        Detector::PrivateKey => Some(SecretKind::PrivateKey),
        Detector::AwsAccessKey => Some(SecretKind::AwsAccessKey),
        Detector::Card | Detector::Email => None,
    }
}

fn of_looks(looks: Looks) -> SecretKind {
    match looks {
        Looks::Password => SecretKind::Password,
        Looks::Token => SecretKind::Token,
        Looks::PrivateKey => SecretKind::PrivateKey,
        Looks::Named => SecretKind::Other,
    }
}
