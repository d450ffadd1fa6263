//! The look at every thread and process of the sim.

use std::collections::HashSet;

use super::blindness::{UNKNOWN_CHILD, blind};
use super::limits::{HELLO, WELCOME};
use super::rest::{agents_are_at_work, comes_to_rest, is_awake};
use super::state::Gate;
use super::survey::{Listed, Survey};
use crate::sim::agent::Server;
use crate::sim::children::ThreadsChildren;
use crate::sim::foreign::Standing;
use crate::sim::threads::{Activity, OthersChildren};

impl Gate {
    /// Who is at work; the error says what cannot be seen, and why. What was listed just now need not be listed again.
    pub(super) fn look(
        &mut self,
        server: &mut Server,
        listed: Option<Listed>,
    ) -> Result<Survey, String> {
        if agents_are_at_work(server) {
            return Ok(Survey::Agent);
        }
        let (threads, mut children) = listed
            .map_or_else(|| self.children.list_with_threads(), Ok)
            .map_err(blind("the children of this thread cannot be listed"))?;
        self.threads_seen = threads;
        let happened = (server.progress, children.clone());
        // True until everything was looked at.
        self.has_others = true;
        self.sees_others = false;
        self.foreigners.begin_look();
        self.sight.begin_look();
        // Done first: if one is about to be an agent, nothing else has to be looked at.
        let mut is_busy = match self.standing(server, &children)? {
            Standing::Begins => return Ok(Survey::Start),
            standing => standing == Standing::Busy,
        };
        let others = self.children.of_other_threads();
        let others = others.map_err(blind("the children of other threads cannot be listed"))?;
        let mut sorted = match &self.mark {
            Some(mark) => self.threads.sort(mark, &others),
            None => OthersChildren::unknown(&others),
        };
        self.leave_to_others(server, &mut sorted.own)
            .map_err(blind(UNKNOWN_CHILD))?;
        match self.standing(server, &sorted.own)? {
            Standing::Begins => return Ok(Survey::Start),
            standing => is_busy |= standing == Standing::Busy,
        }
        children.extend(&sorted.own);
        let hellos: HashSet<u32> = server.hellos().collect();
        match self.orphans_stand(server, &hellos)? {
            Standing::Begins => return Ok(Survey::Start),
            standing => is_busy |= standing == Standing::Busy,
        }
        if is_busy {
            // Such a process comes and goes without a word, so that what was seen of other sims no longer counts.
            self.looked_at = None;
        }
        if self.others_start_agents(server, &sorted.strangers)? {
            return Ok(Survey::Start);
        }
        if !hellos.is_empty() {
            if is_busy && !self.welcome.is_over(WELCOME, &self.foreigners.running) {
                return Ok(Survey::Start);
            }
            // A process that is awake after its hello was signalled, and may be dying.
            if hellos.iter().any(|pid| !comes_to_rest(|| is_awake(*pid))) {
                return Ok(Survey::Agent);
            }
            self.welcome.end();
            // Code that starts one process after the other has reaped the one before.
            if hellos.iter().any(|pid| sorted.own.contains(pid)) {
                server.see_reaped();
            }
            server.look_at_parents();
            server.welcome_all(&children);
            self.registered.extend(self.ready.pids());
            self.registered
                .retain(|pid| server.member_of(*pid).is_some());
            return Ok(Survey::Welcomed);
        }
        if self.threads_are_at_work(&others)? {
            return Ok(Survey::Thread);
        }
        let strangers = server.silent_strangers();
        if strangers.is_empty() {
            self.silent.end();
        } else {
            let running: Vec<u32> = strangers.into_iter().filter(|pid| is_awake(*pid)).collect();
            return Ok(match self.silent.is_over(HELLO, &running) {
                true => Survey::Other,
                false => Survey::Start,
            });
        }
        if is_busy {
            return Ok(Survey::Other);
        }
        if self.zombies_are_unsettled(server, &children)
            || self.others_fork(server.turns_of_code, happened)?
        {
            return Ok(Survey::Other);
        }
        self.has_others = self.sees_others || self.orphans.are_there();
        Ok(Survey::Nobody)
    }

    /// Whether a thread of the code under test is at work.
    fn threads_are_at_work(&mut self, others: &[ThreadsChildren]) -> Result<bool, String> {
        let Some(mark) = &self.mark else {
            self.sees_others |= !others.is_empty();
            return Ok(false);
        };
        let threads: Vec<u32> = others.iter().map(|(thread, _)| *thread).collect();
        let is_pool = |thread| self.pool.has(thread);
        let activity = self.threads.activity(mark, &threads, &is_pool);
        self.sees_others |= self.threads.are_there;
        match activity.map_err(blind("what other threads do cannot be told"))? {
            Activity::AtRest => Ok(false),
            Activity::Busy(thread) => {
                self.foreigners.running.push(thread);
                Ok(true)
            }
            Activity::OwnRuntime(name) => {
                self.sight.fault(format!(
                    "the code under test runs a runtime of its own, whose thread is `{name}`: its timers go by the \
                     machine's clock, and virtual time cannot wait for them. Run its tasks on the sim's runtime, \
                     with `tokio::spawn` or `tokio::task::spawn_local` in the body, or use `Sim::builder().real_time()`"
                ));
                Ok(true)
            }
        }
    }
}
