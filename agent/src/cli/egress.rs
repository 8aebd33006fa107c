//! `tollgate egress`: what workloads reach besides their services.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use chrono::{DateTime, TimeDelta, Utc};

use super::ask::{Failed, Socket, ask, finish, print, print_json, unexpected};
use super::text::{ago, cut, one_line, table};
use crate::control::{EgressDestination, EgressListing, Request, Response};

/// List what workloads reach, or try to, around the services of their policies
///
/// With `egress = "observe"` in its policy, what a workload connects to passes and is listed; with "deny" it is refused and
/// listed. Also listed is what was refused or dropped on the way to a service: other protocols than TCP, connections from
/// before, packets made by hand. With "allow" nothing is looked at.
///
/// Each line is one destination: how often, when first and last, and the process that was last. The protocol is a guess from
/// the port; nothing of what was sent is read. The list outlives the agent; it is forgotten when the host restarts.
///
/// Exit codes: 0 done, 3 no agent is running.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tollgate egress
  tollgate egress --workload ci-report --since 24h
  tollgate egress --json | jq -r '.destinations[] | select(.verdict == \"refused\") | \"\\(.address):\\(.port)\"'")]
pub struct Args {
    /// Only destinations of this workload
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Only what was seen in the last TIME: 30s, 15m, 24h, 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<TimeDelta>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

/// Runs the verb.
pub async fn run(args: Args, socket: &Path) -> ExitCode {
    finish(show(&args, socket).await)
}

async fn show(args: &Args, socket: &Path) -> Result<(), Failed> {
    let mut client = args.socket.connect(socket).await?;
    let Response::Egress { mut listing } = ask(&mut client, &Request::Egress).await? else {
        return Err(unexpected());
    };
    let now = Utc::now();
    let since = args.since.and_then(|since| now.checked_sub_signed(since));
    listing.destinations.retain(|destination| {
        let wanted = args.workload.as_deref();
        wanted.is_none_or(|wanted| destination.workload.as_str() == wanted)
            && since.is_none_or(|since| destination.last_seen >= since)
    });
    if args.json {
        print_json(&listing)
    } else {
        print(&render(&listing, now))
    }
}

fn time(text: &str) -> Result<TimeDelta, String> {
    let wrong = || format!("{text:?} is no time; write a number and s, m, h or d, as in 24h");
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(wrong)?;
    let number: i64 = number
        .parse()
        .ok()
        .filter(|number| *number >= 0)
        .ok_or_else(wrong)?;
    let time = match unit {
        "s" => TimeDelta::try_seconds(number),
        "m" => TimeDelta::try_minutes(number),
        "h" => TimeDelta::try_hours(number),
        "d" => TimeDelta::try_days(number),
        _ => None,
    };
    time.ok_or_else(wrong)
}

fn render(listing: &EgressListing, now: DateTime<Utc>) -> String {
    let mut out = if listing.destinations.is_empty() {
        "Nothing was reached around the services of policies, as far as it was looked at: see --help.\n"
            .to_owned()
    } else {
        let header = [
            "WORKLOAD",
            "DESTINATION",
            "PROTOCOL (GUESS)",
            "VERDICT",
            "COUNT",
            "FIRST SEEN",
            "LAST SEEN",
            "PROCESS",
        ]
        .map(str::to_owned);
        let rows = listing
            .destinations
            .iter()
            .map(|destination| row(destination, now));
        table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
    };
    // Writing to a String cannot fail.
    if listing.unlisted > 0 {
        let _infallible = writeln!(
            out,
            "\nThe list was full {} times: what was reached then is not in it.",
            listing.unlisted
        );
    }
    if listing.forgotten > 0 {
        let _infallible = writeln!(
            out,
            "\n{} destinations, seen last the longest time ago, were forgotten to make room.",
            listing.forgotten
        );
    }
    out
}

fn row(destination: &EgressDestination, now: DateTime<Utc>) -> [String; 8] {
    let address = match (destination.address, destination.port) {
        (address, 0) => address.to_string(),
        (std::net::IpAddr::V6(address), port) => format!("[{address}]:{port}"),
        (address, port) => format!("{address}:{port}"),
    };
    let place = match destination.names.as_slice() {
        [] => address,
        names => format!("{} ({address})", cut(&one_line(&names.join(", ")), 60)),
    };
    let protocol = match &destination.guess {
        Some(guess) => format!("{} ({guess}?)", destination.transport),
        None => destination.transport.clone(),
    };
    let process = match &destination.process {
        Some(process) => {
            let program = process.executable.as_ref().map_or_else(
                || one_line(&process.command),
                |executable| one_line(&executable.display().to_string()),
            );
            format!("{} (pid {}, uid {})", cut(&program, 60), process.pid, process.uid)
        }
        None => "-".to_owned(),
    };
    [
        one_line(destination.workload.as_str()),
        place,
        protocol,
        destination.verdict.clone(),
        destination.count.to_string(),
        format!("{} ago", ago(now - destination.first_seen)),
        format!("{} ago", ago(now - destination.last_seen)),
        process,
    ]
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::super::approvals::tests::now;
    use super::{render, time};
    use crate::control::{EgressDestination, EgressListing, EgressProcess};

    fn destination() -> EgressDestination {
        EgressDestination {
            workload: "ci-report".into(),
            names: Vec::new(),
            address: "192.0.2.7".parse().unwrap(),
            port: 443,
            transport: "tcp".into(),
            guess: Some("https".into()),
            verdict: "observed".into(),
            count: 12,
            first_seen: now() - TimeDelta::hours(3),
            last_seen: now() - TimeDelta::seconds(5),
            process: Some(EgressProcess {
                pid: 42,
                uid: 1000,
                command: "curl".into(),
                executable: Some("/usr/bin/curl".into()),
                cgroup: None,
            }),
        }
    }

    #[test]
    fn the_list_is_read_at_a_glance() {
        let packet = EgressDestination {
            names: vec!["db.acme.test".into()],
            address: "2001:db8::7".parse().unwrap(),
            transport: "icmpv6".into(),
            guess: None,
            port: 0,
            verdict: "dropped".into(),
            process: None,
            ..destination()
        };
        let listing = EgressListing {
            destinations: vec![destination(), packet],
            unlisted: 3,
            forgotten: 0,
        };
        let expected = "\
WORKLOAD   DESTINATION                 PROTOCOL (GUESS)  VERDICT   COUNT  FIRST SEEN  LAST SEEN  PROCESS
ci-report  192.0.2.7:443               tcp (https?)      observed  12     3 h ago     5 s ago    /usr/bin/curl (pid 42, uid 1000)
ci-report  db.acme.test (2001:db8::7)  icmpv6            dropped   12     3 h ago     5 s ago    -

The list was full 3 times: what was reached then is not in it.
";
        assert_eq!(render(&listing, now()), expected);
        assert!(render(&EgressListing::default(), now()).starts_with("Nothing was reached"));
    }

    #[test]
    fn a_process_cannot_drive_the_terminal_by_its_name() {
        let mut evil = destination();
        evil.process = evil.process.map(|process| EgressProcess {
            command: "\u{1b}[2J".into(),
            executable: Some("/tmp/\u{1b}[1A".into()),
            ..process
        });
        evil.names = vec!["\u{202e}x".into()];
        let listing = EgressListing {
            destinations: vec![evil],
            ..EgressListing::default()
        };
        let shown = render(&listing, now());
        assert!(
            !shown.contains('\u{1b}') && !shown.contains('\u{202e}'),
            "{shown}"
        );
    }

    #[test]
    fn times_are_a_number_and_a_unit() {
        for (text, seconds) in [
            ("30s", 30),
            ("15m", 900),
            ("24h", 86_400),
            ("7d", 604_800),
            ("0s", 0),
        ] {
            assert_eq!(time(text).unwrap(), TimeDelta::seconds(seconds), "{text}");
        }
        for text in [
            "",
            "h",
            "24",
            "-1h",
            "1w",
            "1 h",
            "ü",
            "9999999999999999999h",
            "99999999999999d",
        ] {
            assert!(time(text).unwrap_err().contains("24h"), "{text}");
        }
    }
}
