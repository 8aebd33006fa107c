//! Sources of secrets, and leases.
