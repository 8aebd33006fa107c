//! `tollgate ca`: the authority of this host, which clients that verify TLS have to trust.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use rustls::pki_types::CertificateDer;
use serde_json::json;

use super::ask::{finish, print, print_json};
use super::failed;
use super::text::one_line;
use crate::app::TRUSTED;
use crate::config::{AgentConfig, load_policies};
use crate::tls::trust::{SystemStore, bundle, certificates_of};
use crate::tls::{GRACE, LocalCa, Permitted, pem, replace};

/// See, install and renew the authority whose certificates workloads are shown
///
/// To judge what is inside TLS, the agent ends it, and shows the workload a certificate for the name that it asked for. This
/// host's own authority signs it; its key is root's alone, never leaves the host, and vouches for the names of the policies
/// and for no other, where those are known. A client that verifies has to trust it: `tollgate run` sees to that for one
/// command, `tollgate ca install` for the whole host.
///
/// Without a verb: shows the authorities that are trusted now. There are two while one takes the place of the other.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Exit codes: 0 done, 1 there is no authority yet, or none was installed, 2 an error.

Examples:
  tollgate ca
  tollgate ca --pem > /etc/ssl/tollgate-ca.pem
  tollgate ca --json | jq -r '.[].sha256'
  tollgate ca install
  tollgate ca bundle --output /srv/image/ca-bundle.pem
  tollgate ca rotate")]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    Install(InstallArgs),
    Uninstall(UninstallArgs),
    Bundle(BundleArgs),
    Rotate(RotateArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct ShowArgs {
    /// Print the certificates as clients read them, and nothing else
    #[arg(long, conflicts_with = "json")]
    pem: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Have every program of this host trust it that reads the system's store. Needs root
///
/// Writes the certificates where the distribution keeps those of its administrator, and runs the program that has them
/// read: update-ca-certificates on Debian, Ubuntu, Alpine and SUSE, update-ca-trust on Red Hat, Fedora and Arch. Again after
/// `tollgate ca rotate`: certificates that count no more are removed.
///
/// Programs with a list of their own are not reached: Java, Node, Python's requests, Firefox. `tollgate run` reaches most.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tollgate ca install && curl https://api.acme.test/")]
struct InstallArgs {}

/// Have the system's store forget it. Needs root
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tollgate ca uninstall")]
struct UninstallArgs {}

/// Write the system's authorities and this host's into one file
///
/// For containers and programs that take one file, named in `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE` and the like.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tollgate ca bundle > ca-bundle.pem
  tollgate ca bundle --output /etc/ssl/tollgate-bundle.pem")]
struct BundleArgs {
    /// Where to, in place of what is there [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Make another authority, for the names that the policies have now. Needs root
///
/// Both are trusted for a time: the new one is in `tollgate ca`, in what `tollgate run` gives to commands and in
/// `tollgate ca install` from now on, and signs when the time is over. Distribute it until then. The old one is removed,
/// key and all, when the agent reads its policies next after that.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tollgate ca rotate && tollgate ca install
  tollgate ca rotate --days 30
  tollgate ca rotate --days 0          # at once: its key was stolen")]
struct RotateArgs {
    /// Days until it signs
    #[arg(long, value_name = "N", default_value_t = GRACE.as_secs() / 86_400, value_parser = clap::value_parser!(u64).range(0..=365))]
    days: u64,
}

/// Runs the verb.
pub(super) fn run(args: Args, config: &AgentConfig) -> ExitCode {
    match args.verb {
        None => show(&args.show, config),
        Some(_) if args.show.pem || args.show.json => {
            failed(&"--pem and --json are for `tollgate ca` without a verb")
        }
        Some(Verb::Install(InstallArgs {})) => install(config),
        Some(Verb::Uninstall(UninstallArgs {})) => uninstall(),
        Some(Verb::Bundle(args)) => write_bundle(args, config),
        Some(Verb::Rotate(args)) => rotate(&args, config),
    }
}

/// The certificates that clients have to trust; empty: no agent has made an authority yet.
///
/// The agent publishes them for everybody; of an agent that has stopped root still finds them where they are kept.
pub(super) fn trusted(config: &AgentConfig) -> Vec<CertificateDer<'static>> {
    let kept = config.state_dir.join("ca");
    if let Ok(entries) = std::fs::read_dir(&kept) {
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        // In the order in which they were made: ca.pem, ca-2.pem, … ca-10.pem.
        paths.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
        let pems = paths
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "pem"));
        let certificates: Vec<_> = pems.flat_map(|path| certificates_of(path)).collect();
        if !certificates.is_empty() {
            return certificates;
        }
    }
    certificates_of(&config.run_dir.join(TRUSTED))
}

/// What is said where there is none.
pub(super) const NONE: &str = "this host has no authority yet: the agent makes it at its first start (`tollgate status` tells whether it runs)";

fn none() -> ExitCode {
    anstream::eprintln!("tollgate: {NONE}");
    ExitCode::FAILURE
}

fn show(args: &ShowArgs, config: &AgentConfig) -> ExitCode {
    let certificates = trusted(config);
    if certificates.is_empty() {
        return none();
    }
    if args.pem {
        return finish(print(&pem(&certificates)));
    }
    let views: Vec<View> = certificates.iter().filter_map(View::of).collect();
    finish(if args.json {
        print_json(&views.iter().map(View::json).collect::<Vec<_>>())
    } else {
        print(&render(&views))
    })
}

/// One authority, for people.
struct View {
    subject: String,
    sha256: String,
    until: String,
    permitted: Permitted,
}

impl View {
    fn of(certificate: &CertificateDer<'static>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
        let until = chrono::DateTime::from_timestamp(parsed.validity().not_after.timestamp(), 0)?;
        let bytes = digest.as_ref().iter().map(|byte| format!("{byte:02X}"));
        Some(Self {
            subject: parsed.subject().to_string(),
            sha256: bytes.collect::<Vec<_>>().join(":"),
            until: until.format("%Y-%m-%d").to_string(),
            permitted: Permitted::of_certificate(&parsed)?,
        })
    }

    fn json(&self) -> serde_json::Value {
        let names = match &self.permitted {
            Permitted::Any => serde_json::Value::Null,
            Permitted::Names(names) => json!(names),
        };
        json!({ "subject": self.subject, "sha256": self.sha256, "valid_until": self.until, "names": names })
    }
}

fn render(views: &[View]) -> String {
    let mut text = String::new();
    for view in views {
        let names = match &view.permitted {
            Permitted::Any => "every name: a policy has a service whose names cannot be known (a network without tls.server_name)"
                .to_owned(),
            Permitted::Names(names) if names.is_empty() => "no name, addresses alone".to_owned(),
            Permitted::Names(names) => names.iter().map(|name| one_line(name)).collect::<Vec<_>>().join(", "),
        };
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            text,
            "{}\n  SHA-256      {}\n  valid until  {}\n  vouches for  {names}",
            one_line(&view.subject),
            view.sha256,
            view.until
        );
    }
    text
}

fn install(config: &AgentConfig) -> ExitCode {
    let certificates = trusted(config);
    if certificates.is_empty() {
        return none();
    }
    let installed = SystemStore::find(Path::new("/")).and_then(|store| store.install(&certificates));
    match installed {
        Ok(places) => {
            let lines = places.iter().map(|place| format!("{}\n", place.display()));
            finish(print(&lines.collect::<String>()))
        }
        Err(error) => failed(&error),
    }
}

fn uninstall() -> ExitCode {
    match SystemStore::find(Path::new("/")).and_then(|store| store.uninstall()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            anstream::eprintln!("tollgate: the system's store has none of this host's authorities");
            ExitCode::FAILURE
        }
        Err(error) => failed(&error),
    }
}

fn write_bundle(args: BundleArgs, config: &AgentConfig) -> ExitCode {
    let certificates = trusted(config);
    if certificates.is_empty() {
        return none();
    }
    let text = pem(&bundle(certificates));
    match args.output {
        None => finish(print(&text)),
        Some(path) => match replace(&path, text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        },
    }
}

fn rotate(args: &RotateArgs, config: &AgentConfig) -> ExitCode {
    let mut services = Vec::new();
    for policy in load_policies(&config.policy_dir) {
        match policy {
            Ok(policy) => services.extend(policy.services),
            // Its names would be missing.
            Err(error) => return failed(&error),
        }
    }
    let wanted = Permitted::of(&services);
    let dir = config.state_dir.join("ca");
    if !dir.is_dir() {
        return none();
    }
    let days = args.days;
    let grace = Duration::from_secs(days * 86_400);
    let made = LocalCa::open_or_create(&dir).and_then(|authority| {
        let made = authority.rotate(&wanted, grace)?;
        authority.publish(&config.run_dir.join(TRUSTED))?;
        Ok(made)
    });
    match made {
        Ok(made) => {
            let Some(view) = View::of(&made.certificate) else {
                return failed(&"the new authority cannot be read");
            };
            let when = if days == 0 {
                "signs from now on".to_owned()
            } else {
                format!("signs in {days} days, until when both are trusted")
            };
            finish(print(&format!(
                "{}The new authority {when}: run `tollgate ca install` where the old one is installed.\n",
                render(&[view])
            )))
        }
        Err(error) => failed(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::{AgentConfig, LocalCa, Permitted, View, render, trusted};

    #[test]
    fn what_is_shown_tells_whom_to_trust_and_for_what() {
        let dir = tempfile::tempdir().unwrap();
        let names = Permitted::Names(["api.acme.test".to_owned()].into());
        let authority = LocalCa::open_for(&dir.path().join("state/ca"), &names).unwrap();
        let config = AgentConfig {
            state_dir: dir.path().join("state"),
            run_dir: dir.path().join("run"),
            ..AgentConfig::default()
        };
        assert_eq!(trusted(&config), [authority.certificate()]);
        let view = View::of(&authority.certificate()).unwrap();
        let text = render(&[view]);
        assert!(text.contains("O=Tollgate"), "{text}");
        assert!(text.contains("vouches for  api.acme.test\n"), "{text}");
        let json = View::of(&authority.certificate()).unwrap().json();
        assert_eq!(json["names"], serde_json::json!(["api.acme.test"]));
        assert_eq!(json["sha256"].as_str().unwrap().len(), 32 * 3 - 1);
    }

    #[test]
    fn whoever_may_not_read_the_agents_folder_finds_what_it_publishes() {
        let dir = tempfile::tempdir().unwrap();
        let authority = LocalCa::open_or_create(&dir.path().join("elsewhere")).unwrap();
        let config = AgentConfig {
            state_dir: dir.path().join("closed"),
            run_dir: dir.path().to_owned(),
            ..AgentConfig::default()
        };
        assert!(trusted(&config).is_empty());
        authority.publish(&dir.path().join("ca.pem")).unwrap();
        assert_eq!(trusted(&config), [authority.certificate()]);
    }
}
