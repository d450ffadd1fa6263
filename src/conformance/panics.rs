//! The panics of a subject's tasks, which tokio keeps to itself.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

use crate::sim::panic_text;

thread_local! {
    /// The first panic of a case, on a thread that plays one.
    static FIRST: RefCell<Option<Option<String>>> = const { RefCell::new(None) };
}

/// Begins to listen on this thread: what was heard before is forgotten. The hook that was there goes on
/// to be called.
pub(super) fn listen() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // It may come while the thread ends.
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

/// The first panic that was heard since.
pub(super) fn heard() -> Option<String> {
    FIRST.take().flatten()
}
