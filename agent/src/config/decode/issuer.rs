//! What the sources with an issuer have in common.

use std::time::Duration;

use crate::config::issuer::IssuerSpec;
use crate::config::reader::{Field, Table, Wrong};
use crate::config::scalar;

use super::identity::trusted_url;
use super::or_default;

const TIMEOUT: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
/// The keeper of leases waits no longer.
const MOST_TIMEOUT: Duration = Duration::from_secs(25);

/// `endpoint`, `endpoint_ca`, `timeout`. `usual`: the end point where none is given; `None`: there has to be one.
pub(super) fn issuer(table: &Table<'_>, usual: Option<String>) -> Option<IssuerSpec> {
    let endpoint = match usual {
        Some(usual) => or_default(table.optional("endpoint"), usual, |field| field.parsed(address)),
        None => table.required("endpoint").and_then(|field| field.parsed(address)),
    };
    let ca = or_default(table.optional("endpoint_ca"), None, |field| {
        field.path().map(Some)
    });
    let timeout = or_default(table.optional("timeout"), TIMEOUT, |field| {
        field.parsed(|text| scalar::duration(text, SECOND, MOST_TIMEOUT))
    });
    Some(IssuerSpec {
        endpoint: endpoint?,
        ca: ca?,
        timeout: timeout?,
    })
}

/// An issuer's address.
pub(super) fn address(text: &str) -> Result<String, Wrong> {
    trusted_url(
        text,
        "an end point",
        "write the issuer's own address for it, such as \"https://login.acme.test/token\"",
    )
}

/// A text for an issuer.
pub(super) fn text(field: Field<'_>, longest: usize) -> Option<String> {
    field.parsed(|text| scalar::line(text, longest))
}
