//! What stands in the memory of a process, over every mapping that can be read.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

const CHUNK: usize = 1 << 20;
const PAGE: usize = 4096;

/// The memory of a process, as root sees it.
#[derive(Debug)]
pub struct Memory {
    pid: u32,
    /// Bytes that could be read.
    pub size: usize,
    /// Where each needle was found: its number and the mapping.
    pub hits: Vec<(usize, String)>,
}

impl Memory {
    /// Looks for `needles` in the memory of process `pid`.
    pub fn search(pid: u32, needles: &[&[u8]]) -> Result<Self> {
        let longest = needles.iter().map(|needle| needle.len()).max().unwrap_or(1);
        let mut found = Self {
            pid,
            size: 0,
            hits: Vec::new(),
        };
        let mut hits = Vec::new();
        found.size = each_chunk(pid, longest, |mapping, bytes| {
            for (number, needle) in needles.iter().enumerate() {
                if memchr::memmem::find(bytes, needle).is_some() {
                    hits.push((number, mapping.to_owned()));
                }
            }
        })?;
        found.hits = hits;
        Ok(found)
    }

    /// Whether needle `number` is there.
    pub fn has(&self, number: usize) -> bool {
        self.hits.iter().any(|(found, _)| *found == number)
    }

    /// Fails if needle `number`, which is called `what`, is there.
    ///
    /// # Panics
    /// It is there.
    pub fn lacks(&self, number: usize, what: &str) {
        let places: Vec<&String> = self
            .hits
            .iter()
            .filter(|(found, _)| *found == number)
            .map(|(_, place)| place)
            .collect();
        assert!(
            places.is_empty(),
            "{what} is in the memory of process {}: {places:?}",
            self.pid
        );
    }
}

/// Every run of exactly `length` bytes for which `belongs` holds.
pub fn runs(pid: u32, length: usize, belongs: impl Fn(u8) -> bool) -> Result<Vec<Vec<u8>>> {
    let mut runs = Vec::new();
    each_chunk(pid, length + 2, |_, bytes| {
        for run in bytes.split(|byte| !belongs(*byte)) {
            if run.len() == length {
                runs.push(run.to_vec());
            }
        }
    })?;
    runs.sort();
    runs.dedup();
    Ok(runs)
}

/// Gives the memory in pieces that overlap by `overlap` bytes; returns how many bytes could be read.
fn each_chunk(pid: u32, overlap: usize, mut look: impl FnMut(&str, &[u8])) -> Result<usize> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).context("read the mappings")?;
    let memory = File::open(format!("/proc/{pid}/mem")).context("open the memory")?;
    let mut size = 0;
    let mut chunk = vec![0; CHUNK + overlap];
    for mapping in maps.lines() {
        let Some((range, rest)) = mapping.split_once(' ') else {
            continue;
        };
        // What the kernel maps for its own calls is no memory of the process.
        if !rest.starts_with('r') || mapping.ends_with("[vvar]") || mapping.ends_with("[vsyscall]") {
            continue;
        }
        let address = |text: &str| u64::from_str_radix(text, 16).context("an address");
        let (start, end) = range.split_once('-').context("a range")?;
        let (start, end) = (address(start)?, address(end)?);
        let mut at = start;
        while at < end {
            let wanted = chunk.len().min(usize::try_from(end - at)?);
            let read = match memory.read_at(&mut chunk[..wanted], at) {
                Ok(read) if read > 0 => read,
                // A page that is not there, behind the end of a file.
                _ => {
                    at += PAGE as u64;
                    continue;
                }
            };
            look(mapping, &chunk[..read]);
            size += read;
            if at + read as u64 >= end {
                break;
            }
            at += read.saturating_sub(overlap).max(PAGE.min(read)) as u64;
        }
    }
    Ok(size)
}
