//! The loads: wrk and h2load, and what they print.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::process::run as finish;

use super::site::{BULK, NAME, TOKEN};
use super::world::entering;

/// What is asked for, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Answers of 1 kB over kept connections, HTTP/1.1.
    Small1,
    /// The same over HTTP/2.
    Small2,
    /// A connection of TLS for each request.
    Connections,
    /// Answers of 8 MiB, HTTP/1.1.
    Bulk1,
    /// The same over HTTP/2.
    Bulk2,
}

/// What one run of a load came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    /// Requests, or megabytes, a second.
    pub(super) rate: f64,
    /// Milliseconds that half of the requests take at most; `None` in bulk.
    pub(super) p50: Option<f64>,
    /// Milliseconds that 99 of 100 requests take at most.
    pub(super) p99: Option<f64>,
    /// Answers.
    pub(super) answers: f64,
}

impl Load {
    pub(super) const ALL: [Self; 5] = [
        Self::Small1,
        Self::Small2,
        Self::Connections,
        Self::Bulk1,
        Self::Bulk2,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Small1 => "HTTP/1.1, 1 kB, 32 connections (requests a second)",
            Self::Small2 => "HTTP/2, 1 kB, 4 connections of 8 streams (requests a second)",
            Self::Connections => {
                "HTTP/1.1, 1 kB, a new TLS connection each, 16 at a time (requests a second)"
            }
            Self::Bulk1 => "HTTP/1.1, 8 MiB, 2 connections (MB a second)",
            Self::Bulk2 => "HTTP/2, 8 MiB, 2 connections (MB a second)",
        }
    }

    /// Whether the client wants HTTP/2.
    pub(super) fn is_second(self) -> bool {
        matches!(self, Self::Small2 | Self::Bulk2)
    }

    /// Runs it in a cgroup, for `seconds` or, in bulk, for so many answers as that is good for.
    pub(super) fn run(
        self,
        cgroup: &Cgroup,
        port: u16,
        seconds: u32,
        token: bool,
        dir: &Path,
    ) -> Result<Measured> {
        let log = dir.join("h2load.log");
        let log_text = log.display().to_string();
        let time = seconds.to_string();
        let count = (seconds * 32).to_string();
        let small = format!("https://{NAME}:{port}/small");
        let bulk = format!("https://{NAME}:{port}/bulk");
        let arguments: Vec<&str> = match self {
            Self::Small1 => vec!["-t", "1", "-c", "32", "-d", &time, "--latency", &small],
            Self::Connections => vec![
                "-t",
                "1",
                "-c",
                "16",
                "-d",
                &time,
                "--latency",
                "-H",
                "Connection: close",
                &small,
            ],
            Self::Small2 => vec!["-t1", "-c4", "-m8", "-D", &time, "--log-file", &log_text, &small],
            Self::Bulk1 => vec!["--h1", "-t1", "-c2", "-n", &count, &bulk],
            Self::Bulk2 => vec!["-t1", "-c2", "-m1", "-w24", "-W24", "-n", &count, &bulk],
        };
        let wrk = matches!(self, Self::Small1 | Self::Connections);
        let program = Path::new(if wrk { "/usr/bin/wrk" } else { "/usr/bin/h2load" });
        fs::remove_file(&log).ok();
        let mut command = entering(cgroup, program);
        if token {
            command.args(["-H", &format!("Authorization: Bearer {TOKEN}")]);
        }
        let printed = finish(command.args(arguments))?;
        let measured = if wrk {
            from_wrk(&printed)
        } else {
            let log = fs::read_to_string(&log).unwrap_or_default();
            from_h2load(&printed, &log, matches!(self, Self::Bulk1 | Self::Bulk2))
        };
        measured.with_context(|| format!("{command:?} printed:\n{printed}"))
    }
}

fn from_wrk(printed: &str) -> Result<Measured> {
    for bad in ["Non-2xx", "Socket errors"] {
        ensure!(!printed.contains(bad), "not every request was answered well");
    }
    let after = |name: &str| {
        let found = printed.lines().find_map(|line| line.trim().strip_prefix(name));
        found
            .map(str::trim)
            .with_context(|| format!("there is no {name}"))
    };
    let answers = printed
        .lines()
        .find_map(|line| line.trim().split_once(" requests in "))
        .context("there is no number of requests")?;
    Ok(Measured {
        rate: after("Requests/sec:")?.parse()?,
        p50: Some(milliseconds(after("50%")?)?),
        p99: Some(milliseconds(after("99%")?)?),
        answers: answers.0.parse()?,
    })
}

/// `1.25ms`, `310.00us`, `2.01s`.
fn milliseconds(text: &str) -> Result<f64> {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 6e4)];
    let (number, scale) = units
        .iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)))
        .with_context(|| format!("{text} is no time"))?;
    Ok(number.parse::<f64>()? * scale)
}

/// `log` has a line for each answer: when, status, microseconds.
fn from_h2load(printed: &str, log: &str, bulk: bool) -> Result<Measured> {
    let statuses = printed
        .lines()
        .find_map(|line| line.strip_prefix("status codes: "))
        .context("there are no status codes")?;
    let count = |name: &str| -> Result<f64> {
        let found = statuses
            .split(", ")
            .find_map(|part| part.trim().strip_suffix(name));
        let number = found.with_context(|| format!("there is no number of {name}"))?;
        Ok(number.trim().parse()?)
    };
    for bad in ["3xx", "4xx", "5xx"] {
        ensure!(count(bad)? == 0.0, "not every request was answered well");
    }
    let requests = printed
        .lines()
        .find_map(|line| line.strip_prefix("requests: "))
        .context("there is no number of requests")?;
    for bad in ["failed", "errored", "timeout"] {
        ensure!(
            requests.contains(&format!(" 0 {bad}")),
            "not every request was answered"
        );
    }
    let answers = count("2xx")?;
    let finished = printed
        .lines()
        .find_map(|line| line.strip_prefix("finished in "))
        .context("it has not finished")?;
    let (time, rest) = finished.split_once(", ").context("there is no time")?;
    let per_second = rest.split_once(" req/s").context("there is no rate")?.0;
    let mut times: Vec<f64> = log
        .lines()
        .filter_map(|line| line.split('\t').nth(2)?.parse().ok())
        .collect();
    times.sort_by(f64::total_cmp);
    let part = |percent: usize| times.get(times.len() * percent / 100).map(|time| time / 1e3);
    #[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
    let megabytes = BULK as f64 / 1e6;
    Ok(Measured {
        rate: if bulk {
            answers * megabytes / (milliseconds(time)? / 1e3)
        } else {
            per_second.parse()?
        },
        p50: part(50),
        p99: part(99),
        answers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints_is_read() {
        let printed = "Running 1s test @ https://localhost:1/small\n  Latency Distribution\n     50%    1.20ms\n     \
                       75%    1.53ms\n     99%  810.00us\n  51234 requests in 1.00s, 61.12MB read\nRequests/sec:  51230.55\n";
        let measured = from_wrk(printed).unwrap();
        assert_eq!(measured.p50, Some(1.2));
        assert_eq!(measured.p99, Some(0.81));
        assert!((measured.rate - 51_230.55).abs() < 1e-6);
        assert!((measured.answers - 51_234.0).abs() < 1e-6);
    }

    #[test]
    fn a_load_that_was_refused_is_no_figure() {
        let printed = "  50%    1.20ms\n  99%    2.00ms\n  3 requests in 1.00s, 61.12MB read\n  Non-2xx or 3xx responses: 1\n\
                       Requests/sec:  3.00\n";
        assert!(from_wrk(printed).is_err());
        let printed = "finished in 1.00s, 4.00 req/s, 8.00MB/s\nrequests: 4 total, 4 started, 4 done, 3 succeeded, 1 failed, 0 \
                       errored, 0 timeout\nstatus codes: 3 2xx, 0 3xx, 1 4xx, 0 5xx\n";
        assert!(from_h2load(printed, "", true).is_err());
    }

    #[test]
    fn what_h2load_prints_is_read() {
        let printed = "finished in 500.00ms, 4.00 req/s, 8.00MB/s\nrequests: 4 total, 4 started, 4 done, 4 succeeded, 0 failed, 0 \
                       errored, 0 timeout\nstatus codes: 4 2xx, 0 3xx, 0 4xx, 0 5xx\n";
        let log = "1\t200\t1500\n2\t200\t500\n3\t200\t2500\n4\t200\t9000\n";
        let measured = from_h2load(printed, log, true).unwrap();
        assert!((measured.rate - 4.0 * 8.388_608 / 0.5).abs() < 1e-6);
        assert_eq!(measured.p50, Some(2.5));
        assert_eq!(measured.p99, Some(9.0));
    }
}
