//! Local certificate authority, leaf certificates, upstream verification.
