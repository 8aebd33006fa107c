//! A small cache of classified texts, so that a statement that comes again and again is parsed once.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use parking_lot::Mutex;

use super::classify;
use super::types::{Batch, LexState};

/// Texts longer than this are not kept: they hardly come twice.
const TEXT_MAX: usize = 16 << 10;

/// Classified texts, shared by sessions. Bounded by number and by bytes of text; it keeps two generations, and drops
/// the older one as a whole when the younger one is full, so that what is used stays.
pub struct Cache {
    generations: Mutex<Generations>,
    hasher: RandomState,
    entries_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct Generations {
    young: HashMap<u64, Vec<Entry>>,
    old: HashMap<u64, Vec<Entry>>,
    entries: usize,
    bytes: usize,
}

#[derive(Clone)]
struct Entry {
    text: Arc<str>,
    lex: LexState,
    batch: Arc<Batch>,
}

impl Cache {
    /// A cache of at most `entries` texts of together `bytes` bytes in each of its two generations.
    pub fn new(entries: usize, bytes: usize) -> Self {
        Self {
            generations: Mutex::default(),
            hasher: RandomState::new(),
            entries_max: entries,
            bytes_max: bytes,
        }
    }

    /// The classification of `text`, from the cache or made now.
    pub fn classify(&self, text: &str, lex: LexState) -> Arc<Batch> {
        let hash = self.hasher.hash_one((text, lex));
        if let Some(batch) = self.find(hash, text, lex) {
            return batch;
        }
        let batch = Arc::new(classify(text, lex));
        // A text with a secret in it does not stay in memory.
        if text.len() <= TEXT_MAX && batch.secrets.is_empty() {
            let entry = Entry {
                text: text.into(),
                lex,
                batch: Arc::clone(&batch),
            };
            self.insert(hash, entry);
        }
        batch
    }

    fn find(&self, hash: u64, text: &str, lex: LexState) -> Option<Arc<Batch>> {
        let found = |entries: Option<&Vec<Entry>>| {
            entries?
                .iter()
                .find(|entry| entry.lex == lex && *entry.text == *text)
                .cloned()
        };
        let mut generations = self.generations.lock();
        if let Some(entry) = found(generations.young.get(&hash)) {
            return Some(entry.batch);
        }
        let entry = found(generations.old.get(&hash))?;
        let batch = Arc::clone(&entry.batch);
        generations.insert(hash, entry, self.entries_max, self.bytes_max);
        Some(batch)
    }

    fn insert(&self, hash: u64, entry: Entry) {
        self.generations
            .lock()
            .insert(hash, entry, self.entries_max, self.bytes_max);
    }
}

impl Generations {
    fn insert(&mut self, hash: u64, entry: Entry, entries_max: usize, bytes_max: usize) {
        if self.entries >= entries_max || self.bytes + entry.text.len() > bytes_max {
            self.old = std::mem::take(&mut self.young);
            self.entries = 0;
            self.bytes = 0;
        }
        self.entries += 1;
        self.bytes += entry.text.len();
        self.young.entry(hash).or_default().push(entry);
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generations = self.generations.lock();
        f.debug_struct("Cache")
            .field("entries", &generations.entries)
            .field("bytes", &generations.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: LexState = LexState {
        standard_conforming_strings: true,
    };

    #[test]
    fn the_same_text_is_classified_once_and_another_lexing_is_another_text() {
        let cache = Cache::new(8, 1024);
        let first = cache.classify("SELECT 1", ON);
        assert!(Arc::ptr_eq(&first, &cache.classify("SELECT 1", ON)));
        assert!(!Arc::ptr_eq(
            &first,
            &cache.classify(
                "SELECT 1",
                LexState {
                    standard_conforming_strings: false
                }
            )
        ));
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let cache = Cache::new(4, 1024);
        let used = cache.classify("SELECT 0", ON);
        for n in 0..100 {
            cache.classify(&format!("SELECT {n} + 1"), ON);
            assert!(Arc::ptr_eq(&used, &cache.classify("SELECT 0", ON)));
            let generations = cache.generations.lock();
            assert!(generations.young.len() <= 4 && generations.old.len() <= 4);
        }
    }

    #[test]
    fn a_text_with_a_secret_is_not_kept() {
        let cache = Cache::new(4, 1024);
        let first = cache.classify("ALTER ROLE a PASSWORD 'x'", ON);
        assert!(!Arc::ptr_eq(
            &first,
            &cache.classify("ALTER ROLE a PASSWORD 'x'", ON)
        ));
    }
}
