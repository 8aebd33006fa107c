//! Holds, approvers, time-outs.
