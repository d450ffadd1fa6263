//! What a sim needs of SIGCHLD, which survives an exec where it is ignored or blocked: whoever started the
//! tests may have left it so.

use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Once;

use nix::libc;
use nix::sys::signal::{SigSet, Signal};

/// From its making until it is dropped, this thread gets SIGCHLD. Children are left to whoever waits for
/// them from then on.
#[must_use]
pub(super) struct Surroundings {
    was_blocked: bool,
    /// The mask is the thread's.
    _thread: PhantomData<*const ()>,
}

impl Surroundings {
    /// Makes the process and this thread so. To be called before anything is started.
    ///
    /// Where SIGCHLD is ignored, the kernel reaps every child, and no wait gets a status: nothing that
    /// starts processes works. The default disposition, which is the process's and not the sim's alone, is
    /// restored, and stays: a sim of another thread may need it, too.
    ///
    /// Where it is blocked, tokio never learns that a child has ended that was dropped before, and leaves
    /// it a zombie.
    pub(super) fn enter() -> io::Result<Surroundings> {
        if has_children_kept()? {
            static TOLD: Once = Once::new();
            TOLD.call_once(|| {
                eprintln!(
                    "supervise-harness: SIGCHLD was ignored, most likely by whoever started this process, so that no \
                     wait for a child would have got its status; its default disposition is restored"
                );
            });
        }
        let was_blocked = SigSet::thread_get_mask()?.contains(Signal::SIGCHLD);
        if was_blocked {
            SigSet::from(Signal::SIGCHLD).thread_unblock()?;
        }
        Ok(Surroundings {
            was_blocked,
            _thread: PhantomData,
        })
    }
}

impl Drop for Surroundings {
    fn drop(&mut self) {
        if self.was_blocked {
            // It fails for no valid set.
            let _ = SigSet::from(Signal::SIGCHLD).thread_block();
        }
    }
}

/// Has the kernel keep the status of every child that ends. True where it did not.
fn has_children_kept() -> io::Result<bool> {
    let found = action(Signal::SIGCHLD, None)?;
    if keeps_children(&found) {
        return Ok(false);
    }
    let mut kept = found;
    if kept.sa_sigaction == libc::SIG_IGN {
        kept.sa_sigaction = libc::SIG_DFL;
    }
    kept.sa_flags &= !libc::SA_NOCLDWAIT;
    let replaced = action(Signal::SIGCHLD, Some(&kept))?;
    if keeps_children(&replaced) {
        // Another thread was faster: a handler, tokio's for example, is not ours to take away.
        action(Signal::SIGCHLD, Some(&replaced))?;
    }
    Ok(true)
}

fn keeps_children(action: &libc::sigaction) -> bool {
    action.sa_sigaction != libc::SIG_IGN && action.sa_flags & libc::SA_NOCLDWAIT == 0
}

/// What the signal did until now. What it does from now on, where that is given.
pub(super) fn action(signal: Signal, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    // SAFETY: sigaction is integers and a set; all zeroes is a valid one.
    let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the one is null or valid for reads, the other is valid for writes. What is set was there
    // before, or is the default.
    match unsafe { libc::sigaction(signal as libc::c_int, new, &raw mut old) } {
        0 => Ok(old),
        _ => Err(io::Error::last_os_error()),
    }
}
