//! The signals that a thread sends to numbers that nobody has.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::Signal;

/// A signal to a process, or to its group, that was gone.
pub(super) type Stray = (Signal, u32);

/// Sees to it, from when it is made, that each kill(2) of this thread, and of those that it starts, is
/// looked at before it happens: by a seccomp filter that asks and lets everything pass. Signals by
/// pidfd cannot go astray and are not looked at.
///
/// The filter stays as long as the thread, and a thread can have but one.
#[derive(Debug)]
pub(super) struct Sent {
    strays: Arc<Mutex<Vec<Stray>>>,
}

impl Sent {
    /// # Errors
    ///
    /// The kernel's: it lacks seccomp, or another filter forbids this one.
    pub(super) fn watch() -> io::Result<Sent> {
        let strays: Arc<Mutex<Vec<Stray>>> = Arc::default();
        let (sender, receiver) = mpsc::channel();
        let seen = Arc::clone(&strays);
        // Before the filter is there, which its threads would have, too.
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                if let Ok(listener) = receiver.recv() {
                    listen(&listener, &seen);
                }
            })?;
        let listener = install()?;
        // The thread waits for it.
        let _ = sender.send(listener);
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

/// A filter that asks about kill(2) and allows the rest; the descriptor on which it asks.
fn install() -> io::Result<OwnedFd> {
    // How seccomp_data begins: with the number of the call.
    const NUMBER: u32 = 0;
    let statement = |code: u32, jt: u8, jf: u8, k: u32| -> io::Result<libc::sock_filter> {
        let code = u16::try_from(code).map_err(io::Error::other)?;
        Ok(libc::sock_filter { code, jt, jf, k })
    };
    let kill = u32::try_from(libc::SYS_kill).map_err(io::Error::other)?;
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, NUMBER)?,
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, kill)?,
        statement(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_USER_NOTIF,
        )?,
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW)?,
    ];
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: it takes numbers and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `program` and the filter that it leads to are valid for reads while the call lasts.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the call succeeded: this is a new descriptor, close-on-exec, that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Lets each kill pass, until nobody is left who could send one.
fn listen(listener: &OwnedFd, strays: &Mutex<Vec<Stray>>) {
    loop {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let events = fds[0].revents().unwrap_or(PollFlags::empty());
        if !events.contains(PollFlags::POLLIN) {
            return;
        }
        // SAFETY: plain numbers, of which the kernel wants all to be zero.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: `asked` is what the request says, and valid for writes while the call lasts.
        let received = unsafe {
            libc::ioctl(
                listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV,
                &raw mut asked,
            )
        };
        if received < 0 {
            // Whoever asked was killed meanwhile.
            continue;
        }
        if let Some(stray) = stray(&asked) {
            strays
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(stray);
        }
        // SAFETY: plain numbers.
        let mut answer: libc::seccomp_notif_resp = unsafe { std::mem::zeroed() };
        answer.id = asked.id;
        answer.flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1);
        // SAFETY: `answer` is what the request says, and valid while the call lasts. It fails only
        // where whoever asked was killed meanwhile.
        let _ = unsafe {
            libc::ioctl(
                listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SEND,
                &raw mut answer,
            )
        };
    }
}

/// What goes astray, if it does: the signal and the number. The caller is asleep meanwhile.
fn stray(asked: &libc::seccomp_notif) -> Option<Stray> {
    let argument = |place: usize| {
        let low = asked.data.args[place] & u64::from(u32::MAX);
        u32::try_from(low).map(u32::cast_signed).ok()
    };
    // What others do, the agents among them, who have inherited it, is not the subject's doing.
    if !PathBuf::from(format!("/proc/self/task/{}", asked.pid)).exists() {
        return None;
    }
    let number = argument(0)?;
    // Nobody in particular, or a question.
    let signal = Signal::from_number(argument(1)?).ok()?;
    if number == 0 || number == -1 {
        return None;
    }
    let number = number.unsigned_abs();
    // A zombie is there, too.
    let is_gone = !PathBuf::from(format!("/proc/{number}")).exists();
    is_gone.then_some((signal, number))
}
