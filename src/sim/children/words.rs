//! The words of a process: its name, its arguments and its environment.

use std::fs;
use std::io;

use super::contents::{about, contents, is_gone};
use crate::pidfd::is_own_lack;

/// The name of a process's program, for a message.
pub(crate) fn program_of(pid: u32) -> String {
    named(pid, fs::read(format!("/proc/{pid}/comm")))
}

fn named(pid: u32, name: io::Result<Vec<u8>>) -> String {
    match name {
        Ok(name) => String::from_utf8_lossy(&name).trim_end().to_owned(),
        Err(error) if is_gone(&error) => "a process that is gone".to_owned(),
        Err(error) => format!("process {pid}, whose name cannot be read: {error}"),
    }
}

/// Whether the process has no command line yet: a spawn returns before its exec has set one.
pub(crate) fn has_no_words(pid: u32) -> io::Result<bool> {
    Ok(words(pid, "cmdline")?.is_some_and(|text| text.is_empty()))
}

/// Whether `word` is a word of the process's command line or environment.
pub(crate) fn mentions(pid: u32, word: &str) -> io::Result<bool> {
    for file in ["cmdline", "environ"] {
        let text = words(pid, file)?.unwrap_or_default();
        let mut parts = text.split(|b| *b == 0 || *b == b'=');
        if parts.any(|part| part == word.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a process, by its command line or environment, is for another sim of this process than the one at `address`.
/// A thread that several sims share may have started it.
pub(crate) fn is_for_another_sim(pid: u32, address: &str) -> io::Result<bool> {
    // An address has the number of this process, and then the sim's number.
    let all = format!(
        "{}-",
        address.splitn(3, '-').take(2).collect::<Vec<_>>().join("-")
    );
    let has = |text: &[u8], part: &str| {
        text.windows(part.len())
            .any(|found| found == part.as_bytes())
    };
    let mut is_for_any = false;
    for file in ["cmdline", "environ"] {
        let text = words(pid, file)?.unwrap_or_default();
        if has(&text, address) {
            return Ok(false);
        }
        is_for_any |= has(&text, &all);
    }
    Ok(is_for_any)
}

/// `None` if the process is gone, or if this process may not read the file.
fn words(pid: u32, file: &str) -> io::Result<Option<Vec<u8>>> {
    let path = format!("/proc/{pid}/{file}");
    match contents(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_own_lack(&error) => Err(about(&path, &error)),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::*;

    #[test]
    fn a_process_is_gone_only_where_the_kernel_says_so() {
        assert_eq!(program_of(u32::MAX), "a process that is gone");
        let error = |number| Err(io::Error::from_raw_os_error(number));
        assert_eq!(named(7, error(libc::ESRCH)), "a process that is gone");
        assert_eq!(
            named(7, error(libc::EMFILE)),
            "process 7, whose name cannot be read: Too many open files (os error 24)"
        );
    }
}
