//! The system calls of a thread, looked at before they happen.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::sim::SimThread;

/// A call that has not happened yet. Its thread waits meanwhile.
pub(super) struct Call {
    /// Which, as `SYS_…` in libc.
    pub(super) number: libc::c_long,
    pub(super) arguments: [u64; 6],
    /// The thread, one of this process.
    pub(super) thread: Pid,
}

impl Call {
    /// The low half of an argument: what a C `int` is.
    pub(super) fn word(&self, place: usize) -> u32 {
        const HALF: u64 = u32::MAX as u64;
        u32::try_from(self.arguments[place] & HALF).unwrap_or(0)
    }
}

/// Has each of these calls of this thread, and of those that it starts, be looked at before it
/// happens, from now on and as long as the thread lives: by a seccomp filter, which needs no
/// privileges. What `look` has nothing against happens, the rest fails with its error.
///
/// The filter stays over fork and exec. What other processes do is not the subject's doing, and
/// happens. They sleep for it, though, so that the idle gate may take them for at rest: scripts must
/// make none of these calls where they were woken by something else than the harness.
///
/// `look` runs on a thread of its own, where none of these calls is looked at. Where one of them is a
/// fork it must neither allocate nor lock: fork(3) holds the locks of the allocator while it waits.
///
/// # Errors
///
/// The kernel's: it lacks seccomp, or another filter forbids this one. A thread can have but one.
pub(super) fn look_at(
    numbers: &[libc::c_long],
    look: impl FnMut(&Call) -> Result<(), Errno> + Send + 'static,
) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel();
    let ready = Arc::new(Barrier::new(2));
    let listens = Arc::clone(&ready);
    // Before the filter is there, which its threads would have, too.
    thread::Builder::new()
        .name("calls".to_owned())
        .spawn(move || {
            // It forks nothing.
            let _thread = SimThread::enter(None);
            if let Ok(listener) = receiver.recv() {
                // It allocates no more.
                listens.wait();
                listen(&listener, look);
            }
        })?;
    let listener = install(numbers)?;
    // The thread waits for it.
    let _ = sender.send(listener);
    ready.wait();
    Ok(())
}

/// A filter that asks about these calls and allows the rest; the descriptor on which it asks.
fn install(numbers: &[libc::c_long]) -> io::Result<OwnedFd> {
    // How seccomp_data begins: with the number of the call.
    const NUMBER: u32 = 0;
    let statement = |code: u32, jt: u8, k: u32| -> io::Result<libc::sock_filter> {
        let code = u16::try_from(code).map_err(io::Error::other)?;
        Ok(libc::sock_filter { code, jt, jf: 0, k })
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let mut filter = vec![statement(load, 0, NUMBER)?];
    for (place, number) in numbers.iter().enumerate() {
        // Over the comparisons that are left, and over the answer that follows them.
        let over = u8::try_from(numbers.len() - place).map_err(io::Error::other)?;
        let number = u32::try_from(*number).map_err(io::Error::other)?;
        filter.push(statement(equals, over, number)?);
    }
    filter.push(statement(answer, 0, libc::SECCOMP_RET_ALLOW)?);
    filter.push(statement(answer, 0, libc::SECCOMP_RET_USER_NOTIF)?);
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

/// Answers each call, until nobody is left who could make one. It allocates nothing.
fn listen(listener: &OwnedFd, mut look: impl FnMut(&Call) -> Result<(), Errno>) {
    loop {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
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
        let looked = match own_thread(asked.pid) {
            Some(thread) => look(&Call {
                number: asked.data.nr.into(),
                arguments: asked.data.args,
                thread,
            }),
            None => Ok(()),
        };
        // SAFETY: plain numbers.
        let mut answer: libc::seccomp_notif_resp = unsafe { std::mem::zeroed() };
        answer.id = asked.id;
        match looked {
            Ok(()) => {
                answer.flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1);
            }
            Err(errno) => answer.error = -(errno as i32),
        }
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

/// The thread with this number, where it is one of this process. It is asleep meanwhile, so that the
/// number stays its own.
fn own_thread(number: u32) -> Option<Pid> {
    let thread = i32::try_from(number).ok()?;
    // SAFETY: it takes numbers and touches no memory; signal 0 is sent to nobody.
    let found = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, 0) };
    (found == 0).then(|| Pid::from_raw(thread))
}
