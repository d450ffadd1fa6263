//! What a sim needs of SIGCHLD. A signal that is ignored or blocked stays so over an exec, so whoever started the tests
//! may have left SIGCHLD in that state.

use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Once;

use nix::libc;
use nix::sys::signal::{SigSet, Signal};

/// As long as this exists, its thread receives SIGCHLD. From its making on, also after its drop, the kernel leaves the
/// children that end to whoever waits for them.
#[must_use]
pub(super) struct Surroundings {
    was_blocked: bool,
    /// The signal mask belongs to the thread, so this must stay on it.
    _thread: PhantomData<*const ()>,
}

impl Surroundings {
    /// Prepares the process and this thread. Must be called before anything is started.
    ///
    /// If SIGCHLD is ignored, the kernel reaps every child, and no wait gets a status: nothing that starts processes
    /// works. This restores the default disposition. The disposition is the whole process's, and it stays, because a
    /// sim on another thread may need it, too.
    ///
    /// If SIGCHLD is blocked, tokio never learns of the end of a child whose handle was dropped before, and leaves the
    /// child a zombie.
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
            // This fails only for an invalid set.
            let _ = SigSet::from(Signal::SIGCHLD).thread_block();
        }
    }
}

/// Makes the kernel keep the status of every child that ends. Returns true if the kernel did not before.
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
        // Another thread was faster. Its handler, for example tokio's, is not ours to take away.
        action(Signal::SIGCHLD, Some(&replaced))?;
    }
    Ok(true)
}

fn keeps_children(action: &libc::sigaction) -> bool {
    action.sa_sigaction != libc::SIG_IGN && action.sa_flags & libc::SA_NOCLDWAIT == 0
}

/// Returns what the signal did until now. Sets what it does from now on, if `new` says so.
pub(super) fn action(signal: Signal, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    // SAFETY: sigaction is integers and a set; all zeroes is a valid one.
    let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `new` is null or valid for reads, and `old` is valid for writes. The disposition that is set was there
    // before, or is the default.
    match unsafe { libc::sigaction(signal as libc::c_int, new, &raw mut old) } {
        0 => Ok(old),
        _ => Err(io::Error::last_os_error()),
    }
}
