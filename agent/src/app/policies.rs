//! The policies that count now, with what their sessions need ready. Replaced as a whole by a reload.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::catalogue::Catalogue;

/// The one place where it stands which policies count.
pub(super) struct Policies {
    current: RwLock<Arc<Catalogue>>,
    faults: Mutex<Vec<String>>,
}

impl Policies {
    pub(super) fn new(catalogue: Catalogue) -> Self {
        Self {
            current: RwLock::new(Arc::new(catalogue)),
            faults: Mutex::default(),
        }
    }

    /// Those that count now. What is asked of one value stays together, whatever is reloaded meanwhile.
    pub(super) fn current(&self) -> Arc<Catalogue> {
        Arc::clone(&self.current.read())
    }

    /// From here on `next` counts.
    pub(super) fn replace(&self, next: Arc<Catalogue>) {
        *self.current.write() = next;
    }

    /// Why files do not count as they are: a sentence each, from the last reload.
    pub(super) fn faults(&self) -> Vec<String> {
        self.faults.lock().clone()
    }

    pub(super) fn set_faults(&self, faults: Vec<String>) {
        *self.faults.lock() = faults;
    }
}
