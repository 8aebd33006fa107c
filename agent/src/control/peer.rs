//! Who is at the other end, and how many connections one user may have.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The process at the other end, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: u32,
    pub(super) pid: u32,
}

impl Peer {
    /// `None`: the peer is in a pid namespace that the agent cannot see into, so nothing is known of it.
    pub(super) fn of(stream: &tokio::net::UnixStream) -> Option<Self> {
        let credentials = stream.peer_cred().ok()?;
        let pid = u32::try_from(credentials.pid()?).ok().filter(|pid| *pid != 0)?;
        Some(Self {
            uid: credentials.uid(),
            pid,
        })
    }
}

/// Counts the connections of each user, so that none keeps the others out.
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: Mutex<HashMap<u32, usize>>,
}

/// One connection of a user.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    uid: u32,
}

impl Seats {
    pub(super) fn take(self: &Arc<Self>, uid: u32) -> Option<Seat> {
        let mut taken = self.taken.lock();
        let count = taken.entry(uid).or_default();
        if *count >= SEATS_PER_USER {
            return None;
        }
        *count += 1;
        drop(taken);
        Some(Seat {
            seats: Arc::clone(self),
            uid,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        if let Some(count) = taken.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

const SEATS_PER_USER: usize = 32;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{SEATS_PER_USER, Seats};

    #[test]
    fn one_user_cannot_take_the_seats_of_another() {
        let seats = Arc::new(Seats::default());
        let mut held: Vec<_> = (0..SEATS_PER_USER).map(|_| seats.take(7).unwrap()).collect();
        assert!(seats.take(7).is_none());
        assert!(seats.take(0).is_some());
        held.pop();
        assert!(seats.take(7).is_some());
        drop(held);
        assert!(seats.taken.lock().is_empty());
    }
}
