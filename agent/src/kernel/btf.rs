//! The running kernel's type information, as far as it is needed: numbers of functions, places of fields.
//!
//! The format is Documentation/bpf/btf.rst of the kernel: a header, type records of a length that follows from their
//! kind, and a table of names.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;

/// Where the kernel shows it.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_FUNC: u32 = 12;

/// The type information of the running kernel.
pub(super) struct KernelTypes {
    bytes: Vec<u8>,
    names: usize,
    /// Where each record starts; the first has number 1.
    records: Vec<usize>,
}

impl KernelTypes {
    /// Reads it from where the kernel shows it.
    pub(super) fn read() -> io::Result<Self> {
        Self::parse(fs::read(VMLINUX)?)
            .ok_or_else(|| io::Error::other(format!("{VMLINUX} is not of the format that is known")))
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let magic = u16::from_ne_bytes(*bytes.first_chunk()?);
        let [header, types, length, names] = [4, 8, 12, 16].map(|at| word(&bytes, at));
        let header = header?;
        let types = header.checked_add(types?)?;
        let end = types.checked_add(length?)?;
        let names = header.checked_add(names?)?;
        if magic != MAGIC || end > bytes.len() {
            return None;
        }
        let mut records = Vec::new();
        let mut at = types;
        while at < end {
            records.push(at);
            at = at.checked_add(size_of_record(word32(&bytes, at + 4)?)?)?;
        }
        Some(Self {
            bytes,
            names,
            records,
        })
    }

    /// The number of the function `name`; `None`: this kernel has none that it tells of.
    pub(super) fn function(&self, name: &str) -> Option<u32> {
        let at = self.find(name, KIND_FUNC)?;
        let index = self.records.iter().position(|record| *record == at)?;
        u32::try_from(index + 1).ok()
    }

    /// The byte at which `field` stands in the structure `name`, also where it stands in a part without a name.
    pub(super) fn offset(&self, name: &str, field: &str) -> Option<usize> {
        self.offset_in(self.find(name, KIND_STRUCT)?, field, 0)
    }

    /// The same for many structures, which are looked for together: each look goes over all records.
    pub(super) fn offsets<'n>(
        &self,
        fields: impl Iterator<Item = (&'n str, &'n str)> + Clone,
    ) -> HashMap<(&'n str, &'n str), usize> {
        let wanted: HashSet<&[u8]> = fields.clone().map(|(name, _)| name.as_bytes()).collect();
        let mut records: HashMap<&[u8], usize> = HashMap::new();
        for record in &self.records {
            if self.kind(*record) == Some(KIND_STRUCT)
                && let Some(name) = word(&self.bytes, *record).and_then(|at| self.name(at))
                && wanted.contains(name)
            {
                records.entry(name).or_insert(*record);
            }
        }
        fields
            .filter_map(|(name, field)| {
                let record = records.get(name.as_bytes())?;
                Some(((name, field), self.offset_in(*record, field, 0)?))
            })
            .collect()
    }

    fn offset_in(&self, at: usize, field: &str, depth: u32) -> Option<usize> {
        /// Deeper than any structure of the kernel's goes; type information that refers to itself ends here.
        const DEEPEST: u32 = 8;
        let info = word32(&self.bytes, at + 4)?;
        let fields = usize::try_from(info & 0xffff).ok()?;
        (0..fields).map(|index| at + 12 + 12 * index).find_map(|member| {
            let name = self.name(word(&self.bytes, member)?)?;
            // With bit fields in the structure, the upper eight bits are the field's width.
            let bytes = (word(&self.bytes, member + 8)? & 0x00ff_ffff) / 8;
            if name == field.as_bytes() {
                return Some(bytes);
            }
            if !name.is_empty() || depth == DEEPEST {
                return None;
            }
            let number = word(&self.bytes, member + 4)?;
            let part = *self.records.get(number.checked_sub(1)?)?;
            let inner = match self.kind(part)? {
                KIND_STRUCT | KIND_UNION => self.offset_in(part, field, depth + 1)?,
                _ => return None,
            };
            Some(bytes + inner)
        })
    }

    fn kind(&self, record: usize) -> Option<u32> {
        Some((word32(&self.bytes, record + 4)? >> 24) & 0x1f)
    }

    fn find(&self, name: &str, kind: u32) -> Option<usize> {
        self.records.iter().copied().find(|record| {
            self.kind(*record) == Some(kind)
                && word(&self.bytes, *record).and_then(|at| self.name(at)) == Some(name.as_bytes())
        })
    }

    fn name(&self, at: usize) -> Option<&[u8]> {
        let rest = self.bytes.get(self.names.checked_add(at)?..)?;
        rest.split(|byte| *byte == 0).next()
    }
}

fn word32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(word32(bytes, at)?).ok()
}

/// Bytes of a record whose second word is `info`: twelve, and what its kind adds.
fn size_of_record(info: u32) -> Option<usize> {
    let entries = usize::try_from(info & 0xffff).ok()?;
    let more = match (info >> 24) & 0x1f {
        // Integer, variable, declaration tag.
        1 | 14 | 17 => 4,
        // Array.
        3 => 12,
        // Structure, union, section, enumeration of 64 bits.
        4 | 5 | 15 | 19 => 12 * entries,
        // Enumeration, prototype of a function.
        6 | 13 => 8 * entries,
        // Those that refer to another type, and floats.
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    };
    Some(12 + more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_fields_of_the_running_kernel_are_found() {
        let Ok(types) = KernelTypes::read() else {
            assert!(std::env::var_os("CI").is_none(), "this kernel has no BTF");
            eprintln!("\n*** NOT TESTED: this kernel has no BTF ***\n");
            return;
        };
        assert!(types.function("unix_stream_connect").is_some() || types.function("inet_create").is_some());
        assert_eq!(types.function("no_such_function_of_any_kernel"), None);
        assert_eq!(types.offset("sockaddr_un", "sun_family"), Some(0));
        assert_eq!(types.offset("sockaddr_un", "sun_path"), Some(2));
        assert_eq!(types.offset("sockaddr_un", "no_such_field"), None);
        assert_eq!(types.offset("no_such_struct", "sun_path"), None);
        // In a part without a name, and the part in another one.
        assert_eq!(types.offset("sock_common", "skc_daddr"), Some(0));
        assert_eq!(types.offset("sock_common", "skc_dport"), Some(12));
        assert_eq!(
            types.offsets([("sockaddr_un", "sun_path"), ("no_such_struct", "x")].into_iter()),
            HashMap::from([(("sockaddr_un", "sun_path"), 2)])
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_stop_it(mut raw in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let Some(start) = raw.first_chunk_mut::<2>() {
                *start = MAGIC.to_ne_bytes();
            }
            if let Some(types) = KernelTypes::parse(raw) {
                types.function("x");
                types.offset("x", "y");
                types.offset("", "y");
            }
        }
    }
}
