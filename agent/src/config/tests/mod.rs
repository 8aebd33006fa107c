//! What an author of a file gets to read, and what later stages get to see.

mod agent;
mod inject;
mod issuers;
mod load;
mod requests;
mod scalars;
mod sources;
mod strict;
mod unix;
mod vault;
mod whole;

use std::path::Path;

use super::{PolicyDoc, PolicyErrors, parse_policy};

/// A policy that is right, in the shape that the table tests change.
const GOOD: &str = r#"[workload]
name = "ci-report"
cgroup = ["/actions.slice/report-*.service"]
egress = "deny"

[[service]]
name = "orders-db"
protocol = "postgres"
address = ["db.acme.test:5432"]

[service.credential]
source = "file"
user = "report_ro"
password = "/etc/tollgate/secrets/orders-db"

[[service.rule]]
name = "reads"
effects = ["read"]
verdict = "allow"
"#;

pub(super) fn parse(text: &str) -> Result<PolicyDoc, PolicyErrors> {
    parse_policy(Path::new("p.toml"), text)
}

/// The good policy with the line that starts with `line` replaced.
pub(super) fn with(line: &str, replacement: &str) -> String {
    assert!(GOOD.lines().any(|found| found.starts_with(line)), "{line}");
    GOOD.lines()
        .map(|found| {
            if found.starts_with(line) {
                replacement
            } else {
                found
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}
