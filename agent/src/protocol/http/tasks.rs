//! What a session does side by side, all in the session's own task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::stream::{FuturesUnordered, Stream as _};
use parking_lot::Mutex;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes futures that the session has to drive. The HTTP library gives it its own: connections and exchanges of HTTP/2.
///
/// They are not tasks of the runtime, so that they end with the session, a panic in one of them is the session's, and no
/// two of them run at the same time.
#[derive(Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<Given>>);

#[derive(Default)]
struct Given {
    new: Vec<Task>,
    driver: Option<Waker>,
}

impl Tasks {
    /// Drives `task` until it or the session ends.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut given = self.0.lock();
        given.new.push(Box::pin(task));
        let driver = given.driver.take();
        drop(given);
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}

/// Drives what [`Tasks`] was given. Never ready.
pub(super) struct Driver {
    tasks: Tasks,
    running: FuturesUnordered<Task>,
}

impl Driver {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self {
            tasks,
            running: FuturesUnordered::new(),
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let driver = self.get_mut();
        loop {
            let mut given = driver.tasks.0.lock();
            let new = std::mem::take(&mut given.new);
            given.driver = Some(cx.waker().clone());
            drop(given);
            driver.running.extend(new);
            while let Poll::Ready(Some(())) = Pin::new(&mut driver.running).poll_next(cx) {}
            // What ran may have given more.
            if driver.tasks.0.lock().new.is_empty() {
                return Poll::Pending;
            }
        }
    }
}
