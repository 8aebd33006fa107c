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
    /// What newer kernels call it.
    renamed: Option<&'static str>,
}

const fn field(variable: &'static str, structure: &'static str, member: &'static str) -> Field {
    Field {
        variable,
        structure,
        member,
        renamed: None,
    }
}

/// Linux 6.15 put it under RCU, and gave it another name.
const NODE_PARENT: Field = Field {
    renamed: Some("__parent"),
    ..field("NODE_PARENT", "kernfs_node", "parent")
};

/// What leads from a cgroup to its hierarchy and its id.
pub(super) const CGROUP: &[Field] = &[
    field("CGROUP_ROOT", "cgroup", "root"),
    field("CGROUP_NODE", "cgroup", "kn"),
    field("HIERARCHY_ID", "cgroup_root", "hierarchy_id"),
    field("NODE_ID", "kernfs_node", "id"),
];

/// What leads from a cgroup to the ids of its ancestors, and from a task or a file of the hierarchy to its cgroup.
pub(super) const STANDING: &[Field] = &[
    field("CGROUP_NODE", "cgroup", "kn"),
    field("CGROUP_LEVEL", "cgroup", "level"),
    field("CGROUP_ANCESTORS", "cgroup", "ancestors"),
    field("NODE_ID", "kernfs_node", "id"),
    field("SET_CGROUP", "css_set", "dfl_cgrp"),
    field("TASK_SET", "task_struct", "cgroups"),
    field("TASK_TGID", "task_struct", "tgid"),
];

/// What leads from a socket to its peer.
pub(super) const SOCKET: &[Field] = &[
    field("SOCKET_SOCK", "socket", "sk"),
    field("SOCK_TYPE", "sock", "sk_type"),
    field("SOCK_PROTOCOL", "sock", "sk_protocol"),
    field("SOCK_FAMILY", "sock_common", "skc_family"),
    field("SOCK_PEER_PORT", "sock_common", "skc_dport"),
    field("SOCK_PEER_V4", "sock_common", "skc_daddr"),
    field("SOCK_PEER_V6", "sock_common", "skc_v6_daddr"),
];

/// What leads from a file to its file system and its cgroup, or to its socket.
pub(super) const FILE: &[Field] = &[
    field("FILE_INODE", "file", "f_inode"),
    field("FILE_PRIVATE", "file", "private_data"),
    field("INODE_MODE", "inode", "i_mode"),
    field("INODE_SUPER", "inode", "i_sb"),
    field("INODE_PRIVATE", "inode", "i_private"),
    field("SUPER_MAGIC", "super_block", "s_magic"),
    NODE_PARENT,
    field("NODE_PRIVATE", "kernfs_node", "priv"),
    field("CGROUP_NODE", "cgroup", "kn"),
    field("CGROUP_LEVEL", "cgroup", "level"),
    field("CGROUP_ANCESTORS", "cgroup", "ancestors"),
    field("NODE_ID", "kernfs_node", "id"),
    field("SOCKET_SOCK", "socket", "sk"),
    field("SOCK_TYPE", "sock", "sk_type"),
    field("SOCK_PROTOCOL", "sock", "sk_protocol"),
    field("SOCK_FAMILY", "sock_common", "skc_family"),
    field("SOCK_PEER_PORT", "sock_common", "skc_dport"),
    field("SOCK_PEER_V4", "sock_common", "skc_daddr"),
    field("SOCK_PEER_V6", "sock_common", "skc_v6_daddr"),
];

/// What leads from a unix socket to its name.
pub(super) const UNIX: &[Field] = &[
    field("UNIX_ADDRESS", "unix_sock", "addr"),
    field("UNIX_NAME", "unix_address", "name"),
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
        let fields: Vec<Field> = fields.collect();
        let names = fields
            .iter()
            .flat_map(|field| [Some(field.member), field.renamed].map(|member| (field.structure, member)))
            .filter_map(|(structure, member)| Some((structure, member?)));
        let places = types.offsets(names);
        let mut found: Vec<(&'static str, u32)> = fields
            .iter()
            .filter_map(|field| {
                let place = places.get(&(field.structure, field.member)).or_else(|| {
                    let renamed = field.renamed?;
                    places.get(&(field.structure, renamed))
                })?;
                Some((field.variable, u32::try_from(*place).ok()?))
            })
            .collect();
        // Several programs read the same.
        found.sort_unstable();
        found.dedup();
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
