//! What the kernel side and the agent share.
#![cfg_attr(not(test), no_std)]
