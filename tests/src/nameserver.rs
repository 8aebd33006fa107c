//! A real nameserver: Debian's dnsmasq, without any upstream.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::process::{Service, eventually};
use crate::scratch::Scratch;

/// A running dnsmasq on port 53 of some addresses.
#[derive(Debug)]
pub struct Nameserver {
    service: Option<Service>,
    scratch: Scratch,
    addresses: Vec<String>,
    settings: String,
}

impl Nameserver {
    /// Starts one. `settings`: lines of its configuration, such as `host-record=db.acme.test,10.0.0.1`.
    pub fn start(addresses: &[&str], settings: &str) -> Result<Self> {
        let mut nameserver = Self {
            service: None,
            scratch: Scratch::new("dnsmasq")?,
            addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
            settings: settings.to_owned(),
        };
        nameserver.resume()?;
        Ok(nameserver)
    }

    /// Has it say something else from now on.
    pub fn change(&mut self, settings: &str) -> Result<()> {
        settings.clone_into(&mut self.settings);
        self.stop()?;
        self.resume()
    }

    /// Ends it.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut service) = self.service.take() {
            service.signal(Signal::SIGTERM)?;
            service.wait(Duration::from_secs(10))?;
        }
        Ok(())
    }

    /// Starts it again.
    pub fn resume(&mut self) -> Result<()> {
        let mut config =
            "no-resolv\nno-hosts\nbind-interfaces\nlog-queries\nlog-facility=-\nuser=root\nlocal-ttl=1\n\
             local=/test/\nlocal=/org/\nedns-packet-max=4096\n"
                .to_owned();
        for address in &self.addresses {
            writeln!(config, "listen-address={address}")?;
        }
        config.push_str(&self.settings);
        let file = self.scratch.path().join("dnsmasq.conf");
        fs::write(&file, config)?;
        let log = self.scratch.path().join("dnsmasq.log");
        fs::remove_file(&log).ok();
        let mut command = Command::new("dnsmasq");
        command
            .args(["--keep-in-foreground", "--pid-file="])
            .arg(format!("--conf-file={}", file.display()));
        let mut service = Service::start("dnsmasq", &mut command, &log)?;
        service.wait_for("it to be started", Duration::from_secs(20), |output| {
            output.contains("started, version")
        })?;
        self.service = Some(service);
        Ok(())
    }

    /// What it was asked, since it was started last: a line for each question.
    pub fn log(&self) -> String {
        self.service.as_ref().map(Service::output).unwrap_or_default()
    }

    /// Waits until it has been asked for `name`.
    pub fn was_asked_for(&self, name: &str) -> Result<()> {
        let wanted = format!("] {name} from");
        eventually(
            &format!("the nameserver to be asked for {name}"),
            Duration::from_secs(10),
            || self.log().contains(&wanted).then_some(()),
        )
    }
}
