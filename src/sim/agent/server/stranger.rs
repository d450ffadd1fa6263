//! A process that has connected and is no member yet.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use agent_stub::protocol::{Lineage, MessageError, Report};

use crate::sim::agent::connection::Connection;

/// A connection whose process is no member yet.
#[derive(Debug)]
pub(super) struct Stranger {
    pub(super) connection: Connection,
    pub(super) pid: Option<u32>,
    /// Who the process says it is, once it has said hello.
    pub(super) hello: Option<Hello>,
    /// What the process has said since then.
    pub(super) said: VecDeque<Result<Report, MessageError>>,
    /// A spare descriptor, which makes room for the pidfd of the process. Without one, the hello of
    /// the process would be lost.
    pub(super) spare: OwnedFd,
}

/// Who a process says it is.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) pid: u32,
    pub(super) ppid: u32,
    pub(super) agent: String,
    pub(super) descendant: Option<Lineage>,
}

impl Stranger {
    pub(super) fn new(connection: Connection, spare: OwnedFd) -> Stranger {
        Stranger {
            pid: connection.peer_pid(),
            connection,
            hello: None,
            said: VecDeque::new(),
            spare,
        }
    }

    /// Which descendant the process says it is, if it is one.
    pub(super) fn lineage(&self) -> Option<&Lineage> {
        self.hello.as_ref()?.descendant.as_ref()
    }

    pub(super) fn receive(&mut self) {
        let mut messages = Vec::new();
        self.connection.receive(&mut messages);
        self.said.extend(messages);
    }
}
