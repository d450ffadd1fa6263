//! Locks of flock(2) on open files. A lock lasts as long as the open file, whoever has a descriptor of it.
//!
//! nix's `Flock` unlocks when it is dropped, even if a child has inherited the open file. The lock methods of std's `File` need
//! Rust 1.89.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::libc;

/// Takes the lock. Returns false if somebody else has it.
///
/// # Errors
///
/// The kernel's, such as of a file system without locks.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match call(file, libc::LOCK_EX | libc::LOCK_NB) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        done => done.map(|()| true),
    }
}

/// Takes the lock, and waits until nobody else has it.
///
/// # Errors
///
/// The kernel's, such as of a file system without locks.
#[cfg(feature = "conformance")]
pub(crate) fn lock(file: &File) -> io::Result<()> {
    call(file, libc::LOCK_EX)
}

fn call(file: &File, operation: libc::c_int) -> io::Result<()> {
    loop {
        // SAFETY: flock(2) takes two numbers and touches no memory of ours.
        if unsafe { libc::flock(file.as_raw_fd(), operation) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
