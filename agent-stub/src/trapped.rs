//! Takes trapped signals, and reaps children that have ended.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;

use crate::agent::Agent;
use crate::connection::above_streams;
use crate::frame::Frame;
use crate::options::ClockChoice;
use crate::protocol::Report;
use crate::signal::Signal;
use crate::sys;

impl Agent {
    /// Reaps ended children, takes the signals that came, and begins their handlers. By the
    /// harness's clock taking signals needs a turn. So signals that arrive while the code under
    /// test is at work are taken together, whichever process is faster.
    pub(crate) fn hear_signals(&mut self) {
        if let Some((read, _)) = &self.wake {
            drain(read.as_raw_fd());
        }
        let children = sys::trapped_count(Signal::CHLD);
        let has_heard = std::mem::replace(&mut self.children_heard, children) != children;
        if has_heard || self.ignores_children {
            if !self.reported.contains(&Signal::CHLD) {
                self.seen.insert(Signal::CHLD, children);
            }
            self.reap();
        }
        let has_come = |signal: &Signal| {
            let seen = self.seen.get(signal).copied().unwrap_or(0);
            sys::trapped_count(*signal) != seen
        };
        if self.reported.iter().any(has_come) {
            if self.has_turn || self.options.clock == ClockChoice::Real {
                self.take_signals();
            } else if self.asked_for_signals.is_none() {
                self.asked_for_signals = Some(self.ask_for_turn(true));
            }
        }
        self.begin_handlers();
    }

    /// Counts and reports the signals that came since the last time.
    fn take_signals(&mut self) {
        for signal in self.reported.clone() {
            let count = sys::trapped_count(signal);
            let seen = self.seen.entry(signal).or_default();
            let mut new = count.wrapping_sub(*seen);
            *seen = count;
            // The kernel keeps only one standard signal of a kind until it is taken. A process that
            // is faster than the sender would take several. With turns it never does.
            if self.options.clock == ClockChoice::Harness && !signal.is_realtime() {
                new = new.min(1);
            }
            for _ in 0..new {
                let told = self.told.entry(signal).or_default();
                *told += 1;
                let report = Report::Got(signal, *told);
                self.say(&report);
                self.due.push_back(signal);
            }
        }
    }

    /// Forgets the signals of this kind that came and were not taken. The kernel does so with a
    /// signal that is ignored.
    pub(crate) fn drop_untaken(&mut self, signal: Signal) {
        self.seen.insert(signal, sys::trapped_count(signal));
    }

    /// Begins the handlers that are due.
    fn begin_handlers(&mut self) {
        let mut begun: Vec<Frame> = Vec::new();
        // As with sigaction: a handler is not interrupted by its own signal.
        let may_begin = |signal: &Signal, begun: &[Frame]| {
            let mut frames = self.frames.iter().chain(begun);
            !frames.any(|frame| frame.is_handler_of(*signal))
        };
        while let Some(n) = self.due.iter().position(|signal| may_begin(signal, &begun)) {
            let Some(signal) = self.due.remove(n) else {
                break;
            };
            if let Some(script) = self.handlers.get(&signal) {
                self.idle = false;
                begun.push(Frame::handler(signal, script.clone()));
            }
        }
        // The signal that came first is handled first, so its block goes on top.
        self.frames.extend(begun.into_iter().rev());
    }

    /// Reaps the children that have ended, and reports them.
    pub(crate) fn reap(&mut self) {
        let mut reaped = Vec::new();
        self.children.retain_mut(|child| match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                reaped.push((child.id(), Some(status.into_raw())));
                false
            }
            // SIGCHLD is ignored, so the kernel has reaped the child.
            Err(_) => {
                reaped.push((child.id(), None));
                false
            }
        });
        for (pid, status) in reaped {
            self.say(&Report::Reaped { pid, status });
        }
    }

    /// Traps the signal, so that it wakes the loop.
    pub(crate) fn trap(&mut self, signal: Signal) -> io::Result<()> {
        if self.wake.is_none() {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            write.set_nonblocking(true)?;
            let (read, write) = (above_streams(read.into())?, above_streams(write.into())?);
            sys::wake_by(write.as_raw_fd());
            self.wake = Some((read, write));
        }
        sys::set_disposition(signal, sys::Disposition::Trap)
    }
}

/// Reads everything that is there and drops it. The socket does not block.
fn drain(descriptor: i32) {
    let mut chunk = [0; 256];
    while matches!(sys::read_from(descriptor, &mut chunk), Ok(256)) {}
}
