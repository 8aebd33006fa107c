//! Texts with a meaning of their own: durations, sizes, addresses, names.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::claim::ClaimValue;
use super::glob::{Glob, GlobError};
use super::policy::{ColumnPattern, Endpoint, EndpointHost, TablePattern};
use super::reader::{Wrong, nearest};
use super::selector::{UNIT_KINDS, spells_a_unit};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Units of durations, longest first, as they have to follow one another.
const DURATION_UNITS: &[(&str, u64)] = &[("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", 1)];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// `90s`, `1h30m`, `2d`, from `least` to `most`.
pub(super) fn duration(text: &str, least: Duration, most: Duration) -> Result<Duration, Wrong> {
    let wrong = || {
        Wrong::new(
            format!("\"{text}\" is no duration"),
            "write numbers with d, h, m and s, the largest first, such as \"30m\" or \"1h30m\"",
        )
    };
    let mut rest = text;
    let mut seconds: u64 = 0;
    let mut units = DURATION_UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let (unit, length) = units
            .by_ref()
            .find(|(unit, _)| tail.starts_with(unit))
            .ok_or_else(wrong)?;
        seconds = number
            .checked_mul(*length)
            .and_then(|part| seconds.checked_add(part))
            .ok_or_else(wrong)?;
        rest = tail.get(unit.len()..).unwrap_or_default();
    }
    if text.is_empty() {
        return Err(wrong());
    }
    let duration = Duration::from_secs(seconds);
    if duration < least || duration > most {
        return Err(Wrong::new(
            format!("\"{text}\" is out of range"),
            format!("write a duration from {} to {}", shown(least), shown(most)),
        ));
    }
    Ok(duration)
}

/// `500MB`, `2GiB`: bytes.
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    let names: Vec<&str> = SIZE_UNITS.iter().map(|(unit, _)| *unit).collect();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let help = || {
        let near = nearest(unit, &names).map_or(String::new(), |near| format!("did you mean \"{near}\"? "));
        format!("{near}write a whole number and a unit, such as \"500MB\" (decimal) or \"2GiB\" (binary)")
    };
    let wrong = || Wrong::new(format!("\"{text}\" is no size"), help());
    let number: u64 = number.replace('_', "").parse().map_err(|_| wrong())?;
    let (_, factor) = SIZE_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(wrong)?;
    number
        .checked_mul(*factor)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| {
            Wrong::new(
                format!("\"{text}\" is out of range"),
                "write a size of at least 1B and less than 16 EiB",
            )
        })
}

/// `db.acme.test:5432`, `10.0.4.0/24:5432`, `[2001:db8::/32]:5432`.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, Wrong> {
    const SHAPES: &str = "write \"db.acme.test:5432\", \"10.0.4.0/24:5432\" or \"[2001:db8::/32]:5432\"";
    let no_port = || Wrong::new(format!("\"{text}\" has no port"), SHAPES);
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, tail) = rest
            .split_once(']')
            .ok_or_else(|| Wrong::new(format!("\"{text}\" has a \"[\" without its \"]\""), SHAPES))?;
        if host.parse::<IpNet>().is_err() && !host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) {
            return Err(Wrong::new(
                format!("\"{host}\" in brackets is no IPv6 address or network"),
                SHAPES,
            ));
        }
        (host, tail.strip_prefix(':').ok_or_else(no_port)?)
    } else {
        let (host, port) = text.rsplit_once(':').ok_or_else(no_port)?;
        if host.contains(':') {
            return Err(Wrong::new(
                format!("\"{text}\" has an IPv6 address without brackets"),
                SHAPES,
            ));
        }
        (host, port)
    };
    let port = port
        .parse::<u16>()
        .ok()
        .filter(|number| *number != 0 && port.bytes().all(|b| b.is_ascii_digit()))
        .ok_or_else(|| {
            Wrong::new(
                format!("\"{port}\" is no port"),
                "write the port that the service listens on, from 1 to 65535",
            )
        })?;
    Ok(Endpoint {
        host: endpoint_host(host)?,
        port,
    })
}

fn endpoint_host(host: &str) -> Result<EndpointHost, Wrong> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(EndpointHost::Net(IpNet::from(address.to_canonical())));
    }
    if host.contains('/') {
        let net: IpNet = host.parse().map_err(|_| {
            Wrong::new(
                format!("\"{host}\" is no network"),
                "write an address and a prefix length, such as \"10.0.4.0/24\"",
            )
        })?;
        if net.addr() != net.network() {
            return Err(Wrong::new(
                format!("\"{host}\" has bits beyond its prefix length"),
                format!("did you mean \"{}\", or \"{}\" alone?", net.trunc(), net.addr()),
            ));
        }
        return Ok(EndpointHost::Net(canonical(net)));
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if name.contains('*') {
        return Err(Wrong::new(
            format!("\"{host}\" is a pattern, which no resolver can answer"),
            "name each host, or give the network that they are in",
        ));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // A last label of digits would be read as an address in one of inet_aton's spellings by some resolvers.
    let numeric = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x"));
    if name.len() > 253 || numeric || !name.split('.').all(label) {
        return Err(Wrong::new(
            format!("\"{host}\" is no host name and no address"),
            "write a name such as \"db.acme.test\", an address, or a network",
        ));
    }
    Ok(EndpointHost::Name(name))
}

/// `::ffff:10.0.4.0/120` is `10.0.4.0/24`: the kernel side sees the latter.
fn canonical(net: IpNet) -> IpNet {
    if let (IpAddr::V4(address), Some(prefix)) = (net.addr().to_canonical(), net.prefix_len().checked_sub(96))
        && matches!(net, IpNet::V6(_))
        && let Ok(v4) = ipnet::Ipv4Net::new(address, prefix)
    {
        return IpNet::V4(v4);
    }
    net
}

/// `orders`, `public.orders`, `audit.*`; the schema is `public` if left out.
pub(super) fn table_pattern(text: &str) -> Result<TablePattern, Wrong> {
    let (schema, table) = match text.split('.').collect::<Vec<_>>().as_slice() {
        [table] => ("public", *table),
        [schema, table] => (*schema, *table),
        _ => {
            return Err(Wrong::new(
                format!("\"{text}\" has too many parts"),
                "write \"orders\", \"public.orders\" or \"audit.*\"",
            ));
        }
    };
    parts(text, &[schema, table])?;
    Ok(TablePattern {
        schema: schema.into(),
        table: table.into(),
    })
}

/// `customers.email`, `crm.customers.email`, `*.card_number`; the schema is `*` if left out.
pub(super) fn column_pattern(text: &str) -> Result<ColumnPattern, Wrong> {
    let (schema, table, column) = match text.split('.').collect::<Vec<_>>().as_slice() {
        [table, column] => ("*", *table, *column),
        [schema, table, column] => (*schema, *table, *column),
        [_] => {
            return Err(Wrong::new(
                format!("\"{text}\" names no table"),
                format!("write \"*.{text}\" for the column in any table"),
            ));
        }
        _ => {
            return Err(Wrong::new(
                format!("\"{text}\" has too many parts"),
                "write \"customers.email\", \"crm.customers.email\" or \"*.card_number\"",
            ));
        }
    };
    parts(text, &[schema, table, column])?;
    Ok(ColumnPattern {
        schema: schema.into(),
        table: table.into(),
        column: column.into(),
    })
}

fn parts(text: &str, parts: &[&str]) -> Result<(), Wrong> {
    for part in parts {
        if part.contains('"') {
            return Err(Wrong::new(
                format!("\"{}\" has quotes in it", text.replace('"', "\\\"")),
                "write names as the catalog spells them, without SQL quotes",
            ));
        }
        Glob::name(part).map_err(|error| bad_glob(text, &error))?;
    }
    Ok(())
}

/// A name of DNS with globs: `*.debian.org`. Lower case, without the final dot.
pub(super) fn dns_pattern(text: &str) -> Result<String, Wrong> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let fits = name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_*?".contains(&b))
        });
    if !fits {
        return Err(Wrong::new(
            format!("\"{text}\" is no name of DNS"),
            "write \"deb.debian.org\", \"*.debian.org\" for one label more, or \"**.debian.org\" for any number",
        ));
    }
    let levels = name.replace('.', "/");
    Glob::path(&levels).map_err(|error| bad_glob(text, &error))?;
    if Glob::path(&levels).is_ok_and(|glob| glob.matches("a/b/c/d/e")) {
        return Err(Wrong::new(
            format!("\"{text}\" matches every name"),
            "name the domains that are needed: a nameserver that is asked for any name carries data out",
        ));
    }
    Ok(name)
}

/// Address of a nameserver; its port is 53.
pub(super) fn nameserver(text: &str) -> Result<IpAddr, Wrong> {
    text.parse::<IpAddr>()
        .map(|address| address.to_canonical())
        .map_err(|_| {
            Wrong::new(
                format!("\"{text}\" is no address"),
                "write the address of a nameserver, such as \"10.0.0.2\" or \"2001:db8::53\", without a port",
            )
        })
}

/// A cgroup path with globs.
pub(super) fn cgroup(text: &str) -> Result<(String, Glob), Wrong> {
    let glob = Glob::path(text).map_err(|error| bad_glob(text, &error))?;
    let shape = "write it as the second column of systemd-cgls or /proc/PID/cgroup shows it, such as \"/system.slice/backup.service\"";
    if !text.starts_with('/') {
        return Err(Wrong::new(format!("\"{text}\" does not start with \"/\""), shape));
    }
    if text == "/" {
        return Err(Wrong::new(
            "\"/\" is the cgroup of the whole host, the agent included",
            "name the slice, service or container of the workload",
        ));
    }
    if text.ends_with('/')
        || text.contains("//")
        || text.split('/').any(|level| level == "." || level == "..")
    {
        return Err(Wrong::new(
            format!("\"{text}\" has an empty level, \".\" or \"..\""),
            shape,
        ));
    }
    Ok((text.into(), glob))
}

/// Name of a unit with processes of its own, with globs.
pub(super) fn unit(text: &str) -> Result<(String, Glob), Wrong> {
    if text.rsplit_once('.').is_some_and(|(_, kind)| kind == "slice") {
        return Err(Wrong::new(
            format!("\"{text}\" is a slice"),
            format!("write slice = [\"{text}\"]"),
        ));
    }
    systemd_name(text, &UNIT_KINDS, "backup@*.service")
}

/// Name of a slice, with globs.
pub(super) fn slice(text: &str) -> Result<(String, Glob), Wrong> {
    if text == "-.slice" {
        return Err(Wrong::new(
            "\"-.slice\" is the cgroup of the whole host, the agent included",
            "name the slice of the workload, such as \"ci.slice\"",
        ));
    }
    systemd_name(text, &["slice"], "ci.slice")
}

fn systemd_name(text: &str, kinds: &[&str], example: &str) -> Result<(String, Glob), Wrong> {
    let glob = Glob::path(text).map_err(|error| bad_glob(text, &error))?;
    let help = format!(
        "write the whole name as `systemctl` shows it, with its kind and its escapes, such as \"{example}\""
    );
    let wrong = |why: &str| Err(Wrong::new(format!("\"{text}\" {why}"), help.clone()));
    let Some((stem, kind)) = text.rsplit_once('.') else {
        return wrong("has no kind at its end");
    };
    if !kinds.contains(&kind) || stem.is_empty() {
        return wrong("is no name of this kind of unit");
    }
    if let Some(other) = stem.bytes().find(|b| !spells_a_unit(*b) && !b"*?[]!".contains(b)) {
        return wrong(&format!("has a \"{}\", which no unit has", other.escape_ascii()));
    }
    // What the kernel keeps for itself gets a mark in front, which is no character of the name.
    if stem.starts_with(['?', '[']) {
        return wrong("begins with one character that is not named");
    }
    Ok((text.into(), glob))
}

/// A value of a claim, which may be a glob.
pub(super) fn claim(text: &str) -> Result<ClaimValue, Wrong> {
    if text.contains('\\') {
        return Err(bad_glob(text, &GlobError::Reserved('\\')));
    }
    ClaimValue::like(text).map_err(|error| bad_glob(text, &error))
}

pub(super) fn bad_glob(text: &str, error: &GlobError) -> Wrong {
    let help = match error {
        GlobError::Empty => "write a name, or \"*\" for any",
        GlobError::OpenSet => "write a set as [abc] or [a-z], with something in it",
        GlobError::BackwardRange(..) => "write the smaller character first",
        GlobError::Reserved('\\') => "write the character without a backslash",
        GlobError::Reserved('^') => "write [!…] for all but these characters",
        GlobError::Reserved('/') => "a set stands within one level: write \"/\" outside of it",
        GlobError::Reserved(_) => "write one pattern for each alternative",
        GlobError::DoubleStar => "write \"*\"",
        GlobError::TooLong => "shorten it",
    };
    Wrong::new(format!("\"{text}\" cannot be used: {error}"), help)
}

/// A name that is typed, shown and used in file names: workloads and services.
pub(super) fn identifier(text: &str) -> Result<String, Wrong> {
    let fits = (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
    if fits {
        Ok(text.into())
    } else {
        Err(Wrong::new(
            format!("\"{}\" cannot be a name", text.escape_debug()),
            "use up to 64 lower-case letters, digits, \"-\", \"_\" and \".\", a letter or digit first",
        ))
    }
}

/// A text for people, on one line.
pub(super) fn line(text: &str, longest: usize) -> Result<String, Wrong> {
    if text.trim().is_empty() {
        return Err(Wrong::new("the text is empty", "write a few words"));
    }
    if text.chars().any(char::is_control) {
        return Err(Wrong::new(
            "the text has a line break or another control character",
            "write it on one line",
        ));
    }
    if text.chars().count() > longest {
        return Err(Wrong::new(
            format!("the text is longer than {longest} characters"),
            "shorten it",
        ));
    }
    Ok(text.into())
}

/// Name of an environment variable.
pub(super) fn variable(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match DURATION_UNITS
        .iter()
        .find(|(_, length)| seconds >= *length && seconds.is_multiple_of(*length))
    {
        Some((unit, length)) => format!("{}{unit}", seconds / length),
        None => format!("{seconds}s"),
    }
}
