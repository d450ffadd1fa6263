//! The settling: the gate takes in what the processes do until all of them are at rest.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use tokio::runtime::Handle;

use super::limits::{ENDING, GOING_ON, LOOK, OTHERS, PATIENCE};
use super::rest::barrier;
use super::state::Gate;
use super::survey::Survey;
use super::suspects::{Beside, Suspects};
use crate::sim::agent::{Locked, Shared};
use crate::sim::patience::Patience;
use crate::sim::starved::Waited;

/// How many tasks a sim has of its own.
const OWN_TASKS: usize = 2;

impl Gate {
    /// Takes in what the code under test and the processes did, until all are at rest. Returns whether they are at
    /// rest, and whether there is news for the tasks.
    pub(super) fn take_in<'a>(
        &mut self,
        shared: &'a Shared,
        mut server: Locked<'a>,
        suspects: Suspects,
        beside: Beside,
    ) -> (Locked<'a>, bool, bool) {
        let before = server.progress;
        // What the supervisors have said while the tasks ran.
        server.hear_supervisors();
        server.now = self.now();
        server.begin_step();
        let (mut server, quiet) = self.settle(shared, server, suspects, beside);
        // The timer has to hear of new waits.
        let has_new_deadline = std::mem::take(&mut server.has_new_deadline);
        let news = server.progress != before || has_new_deadline;
        (server, quiet, news)
    }

    /// Takes in what the processes do until none is at work. Returns false if something that is no agent still is after
    /// a while, or if the sim is being ended.
    pub(super) fn settle<'a>(
        &mut self,
        shared: &'a Shared,
        mut server: Locked<'a>,
        suspects: Suspects,
        beside: Beside,
    ) -> (Locked<'a>, bool) {
        let mut ending = Waited::default();
        // The wait for something that may never come to rest. Time spent on other work, which is sure to end, does not
        // count.
        let mut waited = Duration::ZERO;
        let (mut threads, mut processes) = (Patience::default(), Patience::default());
        self.was_quiet = false;
        server.pump(Duration::ZERO);
        loop {
            let survey = self.survey(&mut server, suspects, beside);
            if let Survey::Welcomed = survey {
                continue;
            }
            if let Survey::Nobody = survey
                && barrier(&mut server, suspects)
            {
                let before = server.progress;
                server.pump(Duration::ZERO);
                if server.progress == before && !server.see_thawed() {
                    server.look_at_parents();
                    if self.saw_all {
                        self.has_run = has_tasks();
                        server.see_readers(std::mem::take(&mut self.foreigners.reading));
                    }
                    self.was_quiet = true;
                    return (server, true);
                }
                continue;
            }
            let is_given_up = server.is_ending && {
                let agents = server.alive().map(|(_, member)| member.pid);
                let all: Vec<u32> = agents.chain(self.foreigners.running.clone()).collect();
                ending.for_these(&all) > ENDING
            };
            let is_over_long = match survey {
                // Whoever runs does not wait for a task.
                Survey::Other if !self.foreigners.running.is_empty() => {
                    processes.is_over_within(OTHERS, GOING_ON, &self.foreigners.running)
                }
                Survey::Other => waited >= PATIENCE,
                // If nobody else is at work, the barrier has found that an agent was woken.
                _ if server.is_ending => is_given_up,
                // A thread that gets no processor may have a signal's handler to run.
                Survey::Thread => threads.is_over(OTHERS, &self.foreigners.running),
                Survey::Agent | Survey::Start | Survey::Nobody | Survey::Welcomed => false,
            };
            // An agent that was signalled is at work beside whatever else is, so the gate waits for it.
            let is_let_go = is_over_long && (is_given_up || barrier(&mut server, suspects));
            if is_let_go {
                return (server, false);
            }
            // If a connection waits for a descriptor, there is news all the time, and the pause would be none.
            let is_short = server.is_short();
            // The lock is free during the pause, so that the watchdog can look.
            drop(server);
            let pause = match survey {
                // The hello ends this pause. A look takes the lock of the process's memory, which the process's exec
                // needs.
                Survey::Start => LOOK * 8,
                _ => LOOK,
            };
            let paused = Instant::now();
            if is_short {
                std::thread::sleep(pause);
            } else {
                self.wait_for_news(pause);
            }
            if let Survey::Other = survey {
                // Beside enough other work on the machine a pause is long, and nothing was done in it.
                waited += paused.elapsed().min(LOOK);
            }
            server = shared.lock();
            // The watchdog has freed its spare descriptor: what shows now is not what held up the sim.
            if self.sight.is_over.load(Ordering::Acquire) {
                return (server, false);
            }
            server.pump(Duration::ZERO);
        }
    }

    /// Waits a little while for what the processes say.
    fn wait_for_news(&self, pause: Duration) {
        let mut fds = [PollFd::new(self.news.as_fd(), PollFlags::POLLIN)];
        // An error is EINTR: nothing has come.
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(pause)), None);
    }
}

/// Whether the code under test has tasks besides the body.
pub(super) fn has_tasks() -> bool {
    Handle::current().metrics().num_alive_tasks() > OWN_TASKS
}
