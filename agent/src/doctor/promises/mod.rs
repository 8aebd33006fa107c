//! What is promised of the kernel side, each tried.
//!
//! A new promise is one line in the table of its room, a new room one line in [`ROOMS`].

mod connections;
mod datagrams;
mod free;
mod hooks;
mod names;
mod places;
mod sockets;
mod unix;

use super::scene::{Scene, Trouble};
use super::workload::Outcome;
use super::{Check, DoctorError, Examination, Group, State, Tried};
use crate::kernel::{Trial, open_without};

/// One promise.
pub(super) struct Promise {
    /// What is promised.
    pub(super) title: &'static str,
    /// Programs that keep it: without one of them it is broken.
    pub(super) programs: &'static [&'static str],
    /// What is open where it does not hold; empty: what is open where the kernel refuses the program.
    pub(super) broken: &'static str,
    /// Tries it.
    pub(super) attempt: fn(&mut Scene) -> Result<Found, Trouble>,
}

/// What an attempt found.
pub(super) enum Found {
    /// It holds.
    Holds(String),
    /// It does not.
    Broken(String),
    /// It does not apply here.
    NotHere(String),
}

const ROOMS: &[&[Promise]] = &[
    connections::PROMISES,
    datagrams::PROMISES,
    names::PROMISES,
    sockets::PROMISES,
    unix::PROMISES,
    places::PROMISES,
    hooks::PROMISES,
    free::PROMISES,
];

/// Sets the scene, and tries every promise on it.
pub(super) fn examine(
    examination: &Examination<'_>,
    trials: &[Trial],
) -> Result<(Tried, Vec<Check>), DoctorError> {
    let mut scene = match Scene::new(examination, trials) {
        Ok(scene) => scene,
        Err(error) => {
            let check = Check::new(
                Group::Promises,
                "what is promised can be tried",
                State::Bad,
                "it cannot",
            )
            .advise(error.to_string());
            return Ok((Tried::Nothing, vec![check]));
        }
    };
    let mut checks = Vec::new();
    for promise in all() {
        examination.go_on()?;
        checks.push(promise.examine(&mut scene));
    }
    Ok((scene.tried.clone(), checks))
}

/// Every promise.
pub(super) fn all() -> impl Iterator<Item = &'static Promise> {
    ROOMS.iter().copied().flatten()
}

impl Promise {
    pub(super) fn examine(&self, scene: &mut Scene) -> Check {
        let found = match self.programs.iter().find_map(|program| scene.refused(program)) {
            Some(refused) => Ok(Found::NotHere(refused)),
            None => scene.set().and_then(|()| (self.attempt)(scene)),
        };
        let (state, found) = match found {
            Ok(Found::Holds(found)) => (State::Good, found),
            Ok(Found::Broken(found)) => (State::Bad, found),
            Ok(Found::NotHere(found)) => (State::Skipped, found),
            Err(trouble) => (State::Bad, format!("it could not be tried: {trouble}")),
        };
        let mut check = Check::new(Group::Promises, self.title, state, found).of_programs(self.programs);
        if state == State::Bad {
            let programs = match self.programs {
                [] => String::new(),
                programs => format!(" ({})", programs.join(", ")),
            };
            check = check.advise(format!(
                "{}. Look whether the programs{programs} are attached, above; `systemctl restart tollgate` attaches them anew",
                self.broken()
            ));
        }
        check
    }

    fn broken(&self) -> &'static str {
        let open = || self.programs.iter().find_map(|program| open_without(program));
        match self.broken {
            "" => open().unwrap_or_default(),
            said => said,
        }
    }
}

/// Holds if the kernel refused it with `errno`.
pub(super) fn refused(outcome: &Outcome, errno: nix::errno::Errno) -> Found {
    if outcome.is(errno) {
        Found::Holds(outcome.words())
    } else {
        Found::Broken(outcome.words())
    }
}

impl Found {
    /// The first of several that is broken, else what the first says.
    pub(super) fn all(several: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        let mut told = None;
        for (what, found) in several {
            match found {
                Self::Broken(found) => return Self::Broken(format!("{what}: {found}")),
                other => {
                    told.get_or_insert(other);
                }
            }
        }
        told.unwrap_or(Self::NotHere("there was nothing to try".to_owned()))
    }
}
