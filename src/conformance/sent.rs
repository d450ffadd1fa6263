//! Records the signals that a thread sends to process numbers that nobody has.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;

use super::calls::{self, Call};
use agent_stub::Signal;

/// A signal to a process, or to the group of a process, that was gone: the signal and the number.
pub(super) type Stray = (Signal, u32);

/// From when it is made, has each kill(2) of this thread and of the threads that it starts [looked
/// at](calls::look_at) before it happens. It lets every call happen. A signal by pidfd cannot go
/// astray and is not looked at.
#[derive(Debug)]
pub(super) struct Sent {
    strays: Arc<Mutex<Vec<Stray>>>,
}

impl Sent {
    /// Begins to look at the calls of this thread.
    ///
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

    /// Returns the signals that went astray so far.
    pub(super) fn strays(&self) -> Vec<Stray> {
        self.strays
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Returns the signal and the number if the call sends a signal to a process that is gone.
fn stray(call: &Call) -> Option<Stray> {
    let number = call.word(0).cast_signed();
    // Signal 0 only asks whether a process exists. The numbers 0 and -1 mean no process in
    // particular.
    let signal = Signal::from_number(call.word(1).cast_signed()).ok()?;
    if number == 0 || number == -1 {
        return None;
    }
    let number = number.unsigned_abs();
    // A zombie still is in /proc, so a signal to it does not go astray.
    let is_gone = !PathBuf::from(format!("/proc/{number}")).exists();
    is_gone.then_some((signal, number))
}
