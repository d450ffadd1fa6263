//! A block that is being run, and what it waits for.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use crate::quoted::Quoted;
use crate::script::Script;
use crate::signal::Signal;
use crate::watch::Watch;
use crate::writing::Writing;

/// What a script waits for.
pub(crate) enum Wait {
    /// A point in real time.
    Until(Instant),
    /// The harness's `go` for the wait or the turn with this number.
    Go(u64),
    /// Nothing: this wait never ends.
    Ever,
    /// A gate that the harness opens.
    Gate(Quoted),
    /// Something in the file system, for which the stub has to poll.
    Watch(Watch),
    /// Room to write to this descriptor, which the stub has not opened itself.
    Writable(i32),
    /// Room to write to a file or a socket that the stub has opened itself.
    Room(OwnedFd),
}

/// How often a block is run.
#[derive(Clone, Copy)]
pub(crate) enum Again {
    Times(u32),
    Forever,
}

/// A block that is being run.
pub(crate) struct Frame {
    pub(crate) script: Rc<Script>,
    /// The index of the next statement.
    pub(crate) next: usize,
    pub(crate) again: Again,
    /// The signal that this block handles, if it is a handler.
    handles: Option<Signal>,
    pub(crate) wait: Option<Wait>,
    /// A write that is under way.
    pub(crate) writing: Option<Writing>,
}

impl Frame {
    /// Makes the frame begin its current statement again once the wait is over.
    pub(crate) fn retry_after(&mut self, wait: Wait) {
        self.next -= 1;
        self.wait = Some(wait);
    }

    pub(crate) fn new(script: Script, again: Again) -> Frame {
        Frame {
            script: Rc::new(script),
            next: 0,
            again,
            handles: None,
            wait: None,
            writing: None,
        }
    }

    /// Makes a frame for the block that handles the signal.
    pub(crate) fn handler(signal: Signal, script: Script) -> Frame {
        Frame {
            handles: Some(signal),
            ..Frame::new(script, Again::Times(1))
        }
    }

    pub(crate) fn is_handler_of(&self, signal: Signal) -> bool {
        self.handles == Some(signal)
    }
}
