//! Listeners, original destination, prefix sniffing.
