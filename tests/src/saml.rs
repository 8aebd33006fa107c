//! A real SAML identity provider: `pysaml2` from `PyPI`, which signs with xmlsec1, on a port of its own.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::agent::workspace;
use crate::driver::python;
use crate::process::{Service, run};
use crate::scratch::Scratch;

/// A running provider.
#[derive(Debug)]
pub struct IdentityProvider {
    _service: Service,
    _scratch: Scratch,
    base: String,
}

impl IdentityProvider {
    /// Starts it; its packages stand in `target/python` (`cargo xtask setup`).
    pub fn start() -> Result<Self> {
        let scratch = Scratch::new("saml")?;
        let mut command = Command::new(python());
        command.arg(workspace().join("tests/saml/provider.py"));
        let mut service = Service::start("pysaml2", &mut command, &scratch.path().join("log"))?;
        let mut port = None;
        service.wait_for("its port", Duration::from_mins(1), |output| {
            port = output.lines().find_map(|line| line.parse::<u16>().ok());
            port.is_some()
        })?;
        let base = format!("http://127.0.0.1:{}", port.context("no port")?);
        Ok(Self {
            _service: service,
            _scratch: scratch,
            base,
        })
    }

    /// Where its metadata is.
    pub fn metadata(&self) -> String {
        format!("{}/metadata", self.base)
    }

    /// Its entity id.
    pub fn entity_id(&self) -> String {
        format!("{}/idp", self.base)
    }

    /// A response with an assertion on `job-4711`, of department `billing`, for `recipient`. `fields`: what is asked for
    /// besides, as `tests/saml/provider.py` has it.
    pub fn response(&self, recipient: &str, fields: &[&str]) -> Result<String> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail-with-body"]);
        let recipient = format!("recipient={recipient}");
        for field in [recipient.as_str(), "attribute=department:billing"]
            .iter()
            .chain(fields)
        {
            curl.args(["--data-urlencode", field]);
        }
        run(curl.arg(format!("{}/assertion", self.base)))
    }
}
