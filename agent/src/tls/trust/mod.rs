//! Where clients look for the authorities that they trust: the system's store, and files that are made for one of them.

mod bundle;
mod jks;
mod store;

pub use bundle::{bundle, certificates_of};
pub use jks::{JKS_PASSWORD, jks};
pub use store::{StoreError, SystemStore};
