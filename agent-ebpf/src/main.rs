//! Tollgate's kernel side: programs at the root of the cgroup2 hierarchy.
//!
//! The programs ask the maps and the kernel, put the question to a pure function of `agent-common`, and carry out
//! its answer. They decide nothing themselves.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "kernel contexts and helpers are raw pointers and foreign functions"
)]

mod ask;
mod bind;
mod cgroups;
mod connect;
mod datagram;
mod egress;
mod fields;
mod getpeername;
mod maps;
mod report;
mod security;
mod sock_create;
mod sock_ops;
mod unix;
mod wait;

/// Helpers that are GPL-only load with this alone; the source is under the licence of its Cargo.toml besides.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // No program has a path to here; if one had, the verifier would reject its endless loop.
    loop {}
}
