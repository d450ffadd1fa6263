//! Records the panics of a subject's tasks, which tokio catches and keeps to itself.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

use crate::sim::panic_text;

thread_local! {
    /// The first panic of a case. The outer `Option` is `None` on a thread that plays no case.
    static FIRST: RefCell<Option<Option<String>>> = const { RefCell::new(None) };
}

/// Begins to listen for panics on this thread, and forgets what was heard before. The panic hook
/// that was there before is still called.
pub(super) fn listen() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // The panic may come while the thread ends, after its thread-locals are gone.
            let _ = FIRST.try_with(|first| {
                if let Ok(mut first) = first.try_borrow_mut()
                    && let Some(first @ None) = &mut *first
                {
                    *first = Some(panic_text(info.payload()));
                }
            });
            before(info);
        }));
    });
    FIRST.set(Some(None));
}

/// Returns the message of the first panic since `listen`, and stops listening.
pub(super) fn heard() -> Option<String> {
    FIRST.take().flatten()
}
