//! The panics of a sim's tasks, which tokio keeps to itself until somebody joins the task.

use std::cell::RefCell;
use std::panic;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Instant;

use tokio::time::Instant as TokioInstant;

use super::failure::panic_text;
use crate::Timestamp;
use crate::agent::Server;
use crate::timeline::{What, Who};

/// A task's panic.
#[derive(Clone, Debug)]
struct Panicked {
    text: String,
    /// When, by the sim's clock; none on a thread of the blocking pool, whose time is nobody's.
    at: Option<TokioInstant>,
    /// When it was heard.
    heard: Instant,
}

/// What was heard on a sim's threads.
#[derive(Debug, Default)]
pub(super) struct Panics(Mutex<Vec<Panicked>>);

thread_local! {
    /// Of the sim that this thread works for, and whether it is the sim's own.
    static HEARING: RefCell<Option<(Arc<Panics>, bool)>> = const { RefCell::new(None) };
}

impl Panics {
    /// Listens on this thread from now on: the sim's own, or one of its blocking pool. The hook that was
    /// there goes on to be called.
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

    /// Puts what was heard on all threads where it belongs, and listens no more on this one: a finding
    /// at its own time, or a remark where it has none, or where the sim was ended: its timeline is that of
    /// then. What was heard after that is what tasks make of their agents' end.
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
                    server.record(&Who::Subject, What::Finding { text });
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

/// Takes note of a panic inside a task. That of the body itself is its failure, and is no task's.
fn hear(info: &panic::PanicHookInfo<'_>) {
    if tokio::task::try_id().is_none() {
        return;
    }
    // It may come while the thread ends.
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
