//! Kernel side: load, attach, pin, maps, events. The only importer of aya; the only `unsafe`.

pub mod mapping;
