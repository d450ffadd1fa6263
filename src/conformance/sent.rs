//! The signals that a thread sends to numbers that nobody has.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;

use super::calls::{self, Call};
use crate::Signal;

/// A signal to a process, or to its group, that was gone.
pub(super) type Stray = (Signal, u32);

/// Sees to it, from when it is made, that each kill(2) of this thread, and of those that it starts, is
/// [looked at](calls::look_at) before it happens, and lets everything pass. Signals by pidfd cannot go
/// astray and are not looked at.
#[derive(Debug)]
pub(super) struct Sent {
    strays: Arc<Mutex<Vec<Stray>>>,
}

impl Sent {
    /// # Errors
    ///
    /// As [`calls::look_at`].
    pub(super) fn watch() -> io::Result<Sent> {
        let strays: Arc<Mutex<Vec<Stray>>> = Arc::default();
        let seen = Arc::clone(&strays);
        calls::look_at(&[libc::SYS_kill], move |call| {
            if let Some(stray) = stray(call) {
                seen.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(stray);
            }
            Ok(())
        })?;
        Ok(Sent { strays })
    }

    /// What went astray so far.
    pub(super) fn strays(&self) -> Vec<Stray> {
        self.strays
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What goes astray, if it does: the signal and the number.
fn stray(call: &Call) -> Option<Stray> {
    let number = call.word(0).cast_signed();
    // Nobody in particular, or a question.
    let signal = Signal::from_number(call.word(1).cast_signed()).ok()?;
    if number == 0 || number == -1 {
        return None;
    }
    let number = number.unsigned_abs();
    // A zombie is there, too.
    let is_gone = !PathBuf::from(format!("/proc/{number}")).exists();
    is_gone.then_some((signal, number))
}
