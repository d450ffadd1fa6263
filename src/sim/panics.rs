//! The panics of a sim's tasks. Tokio keeps them to itself until somebody joins the task.

use std::cell::RefCell;
use std::panic;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Instant;

use tokio::time::Instant as TokioInstant;

use super::failure::panic_text;
use crate::sim::agent::Server;
use crate::timeline::{EventKind, EventSource};
use crate::timestamp::Timestamp;

/// A task's panic.
#[derive(Clone, Debug)]
struct Panicked {
    text: String,
    /// When it happened, by the sim's clock; `None` on a thread of the blocking pool, which has no time of its own.
    at: Option<TokioInstant>,
    /// When the harness heard of it.
    heard: Instant,
}

/// The panics that were heard on a sim's threads.
#[derive(Debug, Default)]
pub(super) struct Panics(Mutex<Vec<Panicked>>);

thread_local! {
    /// The panics of the sim that this thread works for, and whether the thread is the sim's own.
    static HEARING: RefCell<Option<(Arc<Panics>, bool)>> = const { RefCell::new(None) };
}

impl Panics {
    /// Listens on this thread from now on. It is the sim's own thread if `is_own`, else one of its blocking pool. The
    /// panic hook that was there before is still called.
    pub(super) fn listen(self: &Arc<Panics>, is_own: bool) {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                hear(info);
                before(info);
            }));
        });
        HEARING.set(Some((Arc::clone(self), is_own)));
    }

    /// Puts each panic that was heard on any thread where it belongs, and stops listening on this thread. A panic
    /// becomes a finding at its own time. It becomes a remark if it has no time, or if the sim was ended: the timeline
    /// is then the one of that moment. A panic that was heard after that moment is left out, because it follows from
    /// the end of the agents.
    pub(super) fn tell(
        &self,
        server: &mut Server,
        origin: Option<TokioInstant>,
        ended: Option<Instant>,
        remarks: &mut Vec<String>,
    ) {
        let end = server.now;
        for Panicked { text, at, heard } in self.heard() {
            match (at, origin, ended) {
                (.., Some(ended)) if heard > ended => {}
                (Some(at), Some(origin), None) => {
                    server.now = Timestamp::ORIGIN + at.saturating_duration_since(origin);
                    server.record(&EventSource::Subject, EventKind::Finding { text });
                }
                _ => {
                    crate::said::say(&text);
                    remarks.push(text);
                }
            }
        }
        server.now = end;
    }

    fn heard(&self) -> Vec<Panicked> {
        HEARING.set(None);
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Notes a panic inside a task. A panic of the body itself is the sim's failure, and not a task's.
fn hear(info: &panic::PanicHookInfo<'_>) {
    if tokio::task::try_id().is_none() {
        return;
    }
    // The panic may come while the thread ends.
    let _ = HEARING.try_with(|hearing| {
        let Ok(hearing) = hearing.try_borrow() else {
            return;
        };
        let Some((panics, is_own)) = &*hearing else {
            return;
        };
        let place = info.location().map(|at| format!(" at {at}"));
        let text = panic_text(info.payload());
        let panicked = Panicked {
            text: format!("a task panicked{}: {text}", place.unwrap_or_default()),
            at: is_own.then(TokioInstant::now),
            heard: Instant::now(),
        };
        let mut heard = panics.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(panicked);
    });
}
