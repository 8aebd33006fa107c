//! `tollgate approve`: let a held command run.

use std::path::Path;
use std::process::ExitCode;

use super::ask::{Failed, Socket, ask, finish, print, unexpected};
use super::text::{cut, one_line, width};
use crate::approval::HoldView;
use crate::control::{Request, Response};
use crate::model::HoldId;

/// Let a held command run
///
/// `tollgate approvals` lists what waits, with the whole command, its parameters and what it does. The approval is for
/// exactly those bytes: if anything of the command or its parameters differs when it runs, it does not run.
///
/// You have to be root, or be named by the rule's `approvers` (as a user, or through a group of this host), and you
/// cannot approve what runs as you or was started from your login. Your name goes into the session's record.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tollgate approve abcdefgh
  tollgate approve abcdefgh --binding 0f3c9a1e     what you have read, and nothing else")]
pub struct Args {
    /// The id that `tollgate approvals` shows: eight letters
    #[arg(value_name = "ID")]
    id: String,
    /// The binding that you saw (at least 8 of its hex digits): approve nothing else
    #[arg(long, value_name = "HEX")]
    binding: Option<String>,
    #[command(flatten)]
    socket: Socket,
}

/// Runs the verb.
pub async fn run(args: Args, socket: &Path) -> ExitCode {
    finish(approve(&args, socket).await)
}

async fn approve(args: &Args, socket: &Path) -> Result<(), Failed> {
    let mut client = args.socket.connect(socket).await?;
    let id = HoldId::from(args.id.trim().to_ascii_lowercase().as_str());
    let Response::Approvals { holds } = ask(&mut client, &Request::Approvals { watch: false }).await? else {
        return Err(unexpected());
    };
    // One that is not in the list is asked for all the same: the agent knows best why it cannot be decided on.
    let binding = match holds.into_iter().find(|hold| hold.id == id) {
        Some(hold) => Some(checked_binding(&hold, args.binding.as_deref())?),
        None => None,
    };
    match ask(&mut client, &Request::Approve { id, binding }).await? {
        Response::Decided { hold } => {
            let line = format!("Approved {}: {}", hold.id, one_line(&hold.command.text));
            print(&format!("{}\n", cut(&line, width())))
        }
        _ => Err(unexpected()),
    }
}

/// The hold's binding, if it is the one that was seen.
fn checked_binding(hold: &HoldView, seen: Option<&str>) -> Result<String, Failed> {
    let Some(seen) = seen else {
        return Ok(hold.binding.clone());
    };
    let seen = seen.to_ascii_lowercase();
    if seen.len() < SHORTEST_BINDING || !hold.binding.starts_with(&seen) {
        return Err(Failed::Refused(format!(
            "what waits under {} has the binding {}, not {}; read it again before you approve it",
            hold.id,
            hold.binding,
            one_line(&seen)
        )));
    }
    Ok(hold.binding.clone())
}

const SHORTEST_BINDING: usize = 8;

#[cfg(test)]
mod tests {
    use super::super::approvals::tests::hold;
    use super::checked_binding;

    #[test]
    fn a_binding_that_was_seen_has_to_be_the_holds() {
        let hold = hold();
        for (seen, accepted) in [
            (None, true),
            (Some("07070707"), true),
            (Some(hold.binding.as_str()), true),
            (Some("0707070"), false),
            (Some(""), false),
            (Some("08070707"), false),
        ] {
            assert_eq!(checked_binding(&hold, seen).is_ok(), accepted, "{seen:?}");
        }
    }
}
