//! The contents of the files of /proc.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::libc;

/// Reads a file of /proc, in as few calls as that takes. The standard library asks for the file's size, which is 0, and
/// then reads a little at a time.
pub(crate) fn contents(path: &str) -> io::Result<Vec<u8>> {
    read_all(&File::open(path)?)
}

pub(crate) fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let length = file.read_at(&mut chunk, text.len() as u64)?;
        text.extend_from_slice(&chunk[..length]);
        // The kernel fills the buffer, except for a last entry that does not fit.
        if length < chunk.len() - 16 {
            return Ok(text);
        }
    }
}

/// Whether the error says that the thread or process is gone.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

pub(super) fn about(path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path}: {error}"))
}
