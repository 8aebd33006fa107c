//! The control socket: who asks, and the messages.
