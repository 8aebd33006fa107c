//! Others that have programs on cgroups: who, where, and whether they and Tollgate get on.
//!
//! At one cgroup programs are run in the order of their attachment, and those of a cgroup below before those above it. All
//! of them have to agree. One that changes an address before Tollgate's program sees it changes what Tollgate judges.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;

use super::{Check, DoctorError, Group, State, system};
use crate::kernel::cgroup2::Cgroup2;
use crate::kernel::{self, AttachPoint, Attached, Mode};

/// More cgroups than a host of jobs has; the walk says so if it ends here.
const MOST_CGROUPS: usize = 20_000;

/// One line for each program or family of programs that is not Tollgate's.
pub(super) fn programs(pin_dir: &Path) -> Result<Vec<Check>, DoctorError> {
    let cgroup2 = Cgroup2::discover()?;
    let own: BTreeSet<u32> = kernel::own_links(pin_dir)?
        .into_iter()
        .filter_map(|link| link.attached)
        .collect();
    let root = kernel::attached_at(&cgroup2.open_root()?)
        .map_err(system("asking for programs on the cgroup root"))?;
    let mut checks = at_root(&root, &own);
    let (below, complete) = below(cgroup2.mount());
    checks.extend(below_root(&below));
    if !complete {
        checks.push(
            Check::new(
                Group::Neighbours,
                "every cgroup was looked at",
                State::Warning,
                "no",
            )
            .advise(format!(
                "there are more than {MOST_CGROUPS}, of which the rest was left out"
            )),
        );
    }
    if checks.is_empty() {
        checks.push(Check::new(
            Group::Neighbours,
            "programs of others on cgroups",
            State::Good,
            "none",
        ));
    }
    Ok(checks)
}

fn at_root(root: &[Attached], own: &BTreeSet<u32>) -> Vec<Check> {
    let mut checks = Vec::new();
    for point in AttachPoint::ALL {
        let here: Vec<&Attached> = root.iter().filter(|found| found.point == point).collect();
        let ours = here.iter().position(|found| own.contains(&found.id));
        for (position, other) in here.iter().enumerate() {
            if own.contains(&other.id) {
                continue;
            }
            checks.push(judge(other, ours.map(|ours| position < ours)));
        }
    }
    checks
}

/// A program at the root. `before`: whether it is run before Tollgate's; `None` where Tollgate has none there.
fn judge(other: &Attached, before: Option<bool>) -> Check {
    let title = format!("{} at the root, {}", named(other), other.point.name);
    let check = |state, found: &str| Check::new(Group::Neighbours, title.clone(), state, found);
    match (other.mode, before) {
        (Mode::Alone | Mode::Override, _) => check(State::Bad, "takes the place for itself alone").advise(
            "it was attached without BPF_F_ALLOW_MULTI, so that nobody else can attach there, and the agent does not start: \
             have its owner attach it as a link, or with that flag",
        ),
        (Mode::Multi, Some(true)) if other.point.rewrites && !is_tollgates(&other.name) => {
            check(State::Warning, "beside Tollgate's, and run before it").advise(
                "if it changes addresses (Cilium's for services do), Tollgate judges what it changed them to: name those \
                 addresses in the policies, or start the agent before it",
            )
        }
        (Mode::Multi, Some(_)) => check(State::Good, "beside Tollgate's"),
        (Mode::Multi, None) => check(State::Good, "shares its place"),
    }
}

fn is_tollgates(name: &str) -> bool {
    name.starts_with("tollgate_")
}

fn named(program: &Attached) -> String {
    let name = if program.name.is_empty() {
        "without a name"
    } else {
        &program.name
    };
    let of = if name.starts_with("sd_") {
        " (systemd)"
    } else if name.starts_with("cil_") {
        " (Cilium)"
    } else if is_tollgates(name) {
        " (another Tollgate)"
    } else {
        ""
    };
    format!("{name}{of}, program {}", program.id)
}

/// Programs on cgroups below the root: by place and name, on how many.
fn below(root: &Path) -> (BTreeMap<(AttachPoint, String), usize>, bool) {
    let mut found = BTreeMap::new();
    let mut waiting = children(root);
    let mut seen = 0;
    while let Some(cgroup) = waiting.pop() {
        seen += 1;
        if seen > MOST_CGROUPS {
            return (found, false);
        }
        waiting.extend(children(&cgroup));
        // One that is gone by now has no programs.
        let attached = File::open(&cgroup).and_then(|cgroup| kernel::attached_at(&cgroup));
        for program in attached.unwrap_or_default() {
            *found.entry((program.point, program.name)).or_default() += 1;
        }
    }
    (found, true)
}

fn children(cgroup: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(cgroup)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn below_root(found: &BTreeMap<(AttachPoint, String), usize>) -> Vec<Check> {
    found
        .iter()
        .map(|((point, name), cgroups)| {
            let program = Attached {
                id: 0,
                name: name.clone(),
                point: *point,
                mode: Mode::Multi,
            };
            let name = named(&program);
            let name = name.trim_end_matches(", program 0");
            let title = format!("{name} below the root, {}", point.name);
            let on = format!("on {cgroups} cgroup{}", if *cgroups == 1 { "" } else { "s" });
            if point.rewrites && !name.starts_with("sd_") {
                Check::new(Group::Neighbours, title, State::Warning, on).advise(
                    "it is run before Tollgate's; if it changes addresses, Tollgate judges what it changed them to",
                )
            } else {
                Check::new(Group::Neighbours, title, State::Good, on)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(id: u32, name: &str, point: &str, mode: Mode) -> Attached {
        let point = AttachPoint::ALL
            .into_iter()
            .find(|known| known.name == point)
            .unwrap();
        Attached {
            id,
            name: name.to_owned(),
            point,
            mode,
        }
    }

    #[test]
    fn neighbours_are_judged_by_how_they_hang_and_in_which_order() {
        let own = BTreeSet::from([7]);
        let ours = program(7, "tollgate_connec", "cgroup/connect4", Mode::Multi);
        let cilium = program(3, "cil_sock4_conne", "cgroup/connect4", Mode::Multi);
        let firewall = program(4, "sd_fw_egress", "cgroup_skb/egress", Mode::Multi);
        let alone = program(5, "", "cgroup/bind4", Mode::Alone);
        for (root, expected) in [
            (vec![ours.clone()], vec![]),
            (vec![cilium.clone(), ours.clone()], vec![State::Warning]),
            (vec![ours.clone(), cilium], vec![State::Good]),
            (vec![ours.clone(), firewall], vec![State::Good]),
            (vec![ours, alone], vec![State::Bad]),
        ] {
            let states: Vec<_> = at_root(&root, &own).iter().map(|check| check.state).collect();
            assert_eq!(states, expected, "{root:?}");
        }
    }
}
