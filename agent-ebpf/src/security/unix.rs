//! `unix_stream_connect`: a unix socket is known by the name that its server gave it, however it was found.

use agent_common::{EventKind, PENDING_POLICY, Standing, UNIX_PATH_MAX, may_connect};
use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;

use super::{Kernel, PROCEED, read, refuse};
use crate::ask;
use crate::fields::{UNIX_ADDRESS, UNIX_NAME, field};
use crate::unix::{Name, rule};

/// `connect()` to a unix socket, when the kernel has found it.
#[lsm(hook = "unix_stream_connect")]
pub(crate) fn tollgate_unix_link(ctx: LsmContext) -> i32 {
    let standing = ask::current_standing();
    let policy = match standing {
        Standing::Free => return PROCEED,
        Standing::Pending => PENDING_POLICY,
        Standing::Managed { policy, .. } => policy,
    };
    let server: Kernel = ctx.arg(1);
    let Some(name) = bound(server, policy) else {
        return PROCEED;
    };
    // One after the other: where both are looked up at once, the compiler joins the two pointers with an `or`, which the
    // verifier (6.12) prohibits.
    let protected = rule(&name).is_some() || rule(&name.last()).is_some();
    if may_connect(standing, protected) {
        PROCEED
    } else {
        // Who comes here under a protected name was not redirected.
        refuse(EventKind::UnixLinkRefused, standing)
    }
}

/// The name that the server bound. An abstract one leaves an empty path, which no rule has; `None`: it has none at all.
#[inline(always)]
fn bound(server: Kernel, policy: u32) -> Option<Name> {
    // The verifier knows it as a socket of any family.
    let address: Kernel = read(server, field(&UNIX_ADDRESS));
    if address.is_null() {
        return None;
    }
    let mut name = Name::new(policy);
    // The family comes before the path.
    let path = address.wrapping_byte_add(field(&UNIX_NAME) + 2);
    let room = (&raw mut name.key.name).cast();
    // SAFETY: `Name` has a byte for the zero behind the longest path; the helper checks what it reads.
    let read = unsafe { bpf_probe_read_kernel_str(room, UNIX_PATH_MAX as u32 + 1, path) };
    (read > 0).then_some(name)
}
