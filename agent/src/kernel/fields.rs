//! Members of the kernel's structures that programs read: their places are read from BTF and set in the object before
//! it is loaded. aya does not relocate them by itself.

use super::KernelError;
use super::btf::KernelTypes;

/// A member that programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Variable of the object that holds its place.
    pub(super) variable: &'static str,
    structure: &'static str,
    member: &'static str,
}

const fn field(variable: &'static str, structure: &'static str, member: &'static str) -> Field {
    Field {
        variable,
        structure,
        member,
    }
}

/// What leads from a cgroup to its hierarchy and its id.
pub(super) const CGROUP: &[Field] = &[
    field("CGROUP_ROOT", "cgroup", "root"),
    field("CGROUP_NODE", "cgroup", "kn"),
    field("HIERARCHY_ID", "cgroup_root", "hierarchy_id"),
    field("NODE_ID", "kernfs_node", "id"),
];

/// Places of all members that any program reads.
#[derive(Debug)]
pub(super) struct Places {
    found: Vec<(&'static str, u32)>,
}

impl Places {
    /// Of `fields`, in the running kernel.
    pub(super) fn read(fields: impl Iterator<Item = Field>) -> Result<Self, KernelError> {
        let types = KernelTypes::read().map_err(KernelError::system("reading the kernel's types"))?;
        let found = fields
            .filter_map(|field| {
                let place = types.offset(field.structure, field.member)?;
                Some((field.variable, u32::try_from(place).ok()?))
            })
            .collect();
        Ok(Self { found })
    }

    /// Variables of the object with their values.
    pub(super) fn variables(&self) -> &[(&'static str, u32)] {
        &self.found
    }

    /// Why a program that reads `fields` cannot be loaded; `None`: it can.
    pub(super) fn lack(&self, fields: &[Field]) -> Option<String> {
        let lacking = fields
            .iter()
            .find(|field| !self.found.iter().any(|(name, _)| *name == field.variable))?;
        Some(format!(
            "this kernel's `struct {}` has no `{}`",
            lacking.structure, lacking.member
        ))
    }
}
