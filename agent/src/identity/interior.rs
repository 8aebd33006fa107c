//! What a process was started with: its arguments and its environment, secrets and all.

use std::fmt;
use std::io;

use zeroize::Zeroizing;

use super::FlowFacts;
use super::process::{LONGEST_COMMAND_LINE, LONGEST_ENVIRONMENT, ProcessHandle};

/// Arguments and environment of a process, as far as they were asked for. Wiped when dropped.
pub struct Interior {
    command_line: Zeroizing<Vec<u8>>,
    environment: Zeroizing<Vec<u8>>,
}

impl Interior {
    /// Reads them of the process that opened the flow. Blocks on the workload.
    ///
    /// # Errors
    /// The process is gone, or may not be read.
    pub fn read(facts: &FlowFacts, command_line: bool, environment: bool) -> io::Result<Self> {
        let process = ProcessHandle::of_flow(facts)?;
        let read = |wanted: bool, name, limit| {
            if wanted {
                process.read_secret(name, limit)
            } else {
                Ok(Zeroizing::default())
            }
        };
        Ok(Self {
            command_line: read(command_line, "cmdline", LONGEST_COMMAND_LINE)?,
            environment: read(environment, "environ", LONGEST_ENVIRONMENT)?,
        })
    }

    /// From what `/proc` would show.
    #[cfg(test)]
    pub(crate) fn of(command_line: &[u8], environment: &[u8]) -> Self {
        Self {
            command_line: Zeroizing::new(command_line.to_vec()),
            environment: Zeroizing::new(environment.to_vec()),
        }
    }

    /// Its arguments, each with a NUL behind it.
    pub fn command_line(&self) -> &[u8] {
        &self.command_line
    }

    /// Its variables as `NAME=value`, each with a NUL behind it.
    pub fn environment(&self) -> &[u8] {
        &self.environment
    }
}

impl fmt::Debug for Interior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interior")
    }
}
