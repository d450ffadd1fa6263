//! What a guard reports.

use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::path::{Path, PathBuf};

use super::found::Found;
use super::proc::Unreadable;

/// What was left behind. Its `Display` is a report of several lines, one for each thing.
#[derive(Debug)]
#[must_use = "the leaks are what the test should fail with"]
pub struct Leaks {
    made_at: &'static Location<'static>,
    pub(super) processes: Vec<Found>,
    pub(super) descriptors: Vec<Descriptor>,
    pub(super) threads: Vec<Thread>,
    pub(super) unreadable: Option<Unreadable>,
}

/// A descriptor that was opened after the guard was made, or that has become another file's since.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Descriptor {
    /// The number of the descriptor.
    pub number: u32,
    /// What the descriptor refers to, as /proc names it: a path, `socket:[4711]`,
    /// `anon_inode:[eventfd]`.
    pub target: PathBuf,
}

/// A thread that was started after the guard was made, and still runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Thread {
    /// The thread id.
    pub id: u32,
    /// The first 15 bytes of the thread's name.
    pub name: String,
}

impl Leaks {
    pub(super) fn none(made_at: &'static Location<'static>) -> Leaks {
        Leaks {
            made_at,
            processes: Vec::new(),
            descriptors: Vec::new(),
            threads: Vec::new(),
            unreadable: None,
        }
    }

    pub(super) fn is_none(&self) -> bool {
        self.processes.is_empty()
            && self.descriptors.is_empty()
            && self.threads.is_empty()
            && self.unreadable.is_none()
    }

    /// The processes that were left behind, the oldest first. They have been ended; a
    /// [`Fate`](super::Fate) says how.
    #[must_use]
    pub fn processes(&self) -> &[Found] {
        &self.processes
    }

    /// The descriptors that were left open, by number. They are still open: whoever opened them may
    /// still use them.
    #[must_use]
    pub fn descriptors(&self) -> &[Descriptor] {
        &self.descriptors
    }

    /// The threads that were left behind, the oldest first. They still run: a thread cannot be
    /// ended from outside.
    #[must_use]
    pub fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// Why the lists may lack something: /proc could not be read. `None` if it could.
    #[must_use]
    pub fn unreadable(&self) -> Option<&Unreadable> {
        self.unreadable.as_ref()
    }

    /// Where in the source the guard was made.
    #[must_use]
    pub fn made_at(&self) -> &'static Location<'static> {
        self.made_at
    }
}

impl Error for Leaks {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.unreadable.as_ref().map(|error| error as _)
    }
}

impl fmt::Display for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts = Vec::new();
        for (count, one, more) in [
            (self.processes.len(), "process", "processes"),
            (self.descriptors.len(), "descriptor", "descriptors"),
            (self.threads.len(), "thread", "threads"),
        ] {
            match count {
                0 => {}
                1 => counts.push(format!("1 {one}")),
                _ => counts.push(format!("{count} {more}")),
            }
        }
        match counts.is_empty() {
            true => write!(f, "nobody knows what was left behind")?,
            false => write!(f, "{} left behind", counts.join(", "))?,
        }
        write!(f, "\n  --> the leak guard made at {}", self.made_at)?;
        if let Some(error) = &self.unreadable {
            write!(f, "\n  {error}")?;
        }
        for process in &self.processes {
            write!(f, "\n  {process}")?;
        }
        for Descriptor { number, target } in &self.descriptors {
            let target = target.display().to_string();
            write!(
                f,
                "\n  descriptor {number}, still open: {}",
                target.escape_debug()
            )?;
        }
        for Thread { id, name } in &self.threads {
            write!(
                f,
                "\n  thread {id} `{}`, still running",
                name.escape_debug()
            )?;
        }
        Ok(())
    }
}

impl Descriptor {
    pub(super) fn new(number: u32, target: &Path) -> Descriptor {
        Descriptor {
            number,
            target: target.to_owned(),
        }
    }
}
