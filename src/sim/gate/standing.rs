//! How the processes of the sim stand that are no agents: its children, and its orphans.

use std::collections::HashSet;
use std::io;

use super::blindness::{UNKNOWN_CHILD, blind};
use super::state::Gate;
use crate::sim::agent::Server;
use crate::sim::children;
use crate::sim::foreign::{Known, Standing, children_of_thread, has_ended};

impl Gate {
    /// Leaves out what threads of this sim have started for other sims. All sims may share such threads.
    pub(super) fn leave_to_others(
        &mut self,
        server: &Server,
        own: &mut Vec<u32>,
    ) -> io::Result<()> {
        self.for_others.retain(|pid| own.contains(pid));
        for &pid in &*own {
            let is_known = server.member_of(pid).is_some() || self.for_others.contains(&pid);
            if !is_known && children::is_for_another_sim(pid, server.address())? {
                self.for_others.insert(pid);
            }
        }
        own.retain(|pid| !self.for_others.contains(pid));
        Ok(())
    }

    /// How the orphans stand, all together.
    pub(super) fn orphans_stand(
        &mut self,
        server: &mut Server,
        hellos: &HashSet<u32>,
    ) -> Result<Standing, String> {
        let is_over = |server: &Server, pid: u32| {
            let is_known = server.member_of(pid).is_some() || hellos.contains(&pid);
            let is_anothers = || {
                let seen = children::is_for_another_sim(pid, server.address());
                matches!(seen, Ok(true))
            };
            is_known || server.has_refused(pid) || has_ended(pid) || is_anothers()
        };
        // A shell that became an agent may have started other processes before.
        for &pid in hellos {
            let below = children_of_thread(pid, pid).map_err(blind(UNKNOWN_CHILD))?;
            below.into_iter().for_each(|pid| self.orphans.add(pid));
        }
        let living = self.orphans.living(|pid| is_over(server, pid));
        let standing = self.standing(server, &living)?;
        if standing == Standing::Begins {
            return Ok(standing);
        }
        let there = std::mem::take(&mut self.foreigners.there);
        let has_seen_end = std::mem::take(&mut self.has_seen_end);
        let before = &self.before;
        let is_known = |pid| {
            let is_agent = server.member_of(pid).is_some() || hellos.contains(&pid);
            is_agent || server.has_refused(pid) || before.contains(&pid)
        };
        let are_more = self
            .orphans
            .look(self.mark.as_deref(), there, has_seen_end, &is_known)
            .map_err(|unreadable| {
                format!("what has lost its parent cannot be told: {unreadable}")
            })?;
        if !are_more {
            return Ok(standing);
        }
        let living = self.orphans.living(|pid| is_over(server, pid));
        self.standing(server, &living)
    }

    /// How those of `children` stand that are no agents, all together.
    pub(super) fn standing(
        &mut self,
        server: &mut Server,
        children: &[u32],
    ) -> Result<Standing, String> {
        let hellos: HashSet<u32> = server.hellos().collect();
        let mut all = Standing::AtRest;
        for &pid in children {
            let is_known = server
                .member_of(pid)
                .is_some_and(|member| member.said_hello);
            if is_known || hellos.contains(&pid) || self.before.contains(&pid) {
                continue;
            }
            self.sees_others = true;
            let address = server.address().to_owned();
            let known = |pid: u32| match server.member_of(pid) {
                Some(member) if !member.is_alive() => Known::Ended,
                Some(_) => Known::Agent,
                None if hellos.contains(&pid) => Known::Agent,
                None => Known::Other,
            };
            let standing = self.foreigners.standing(pid, &address, &known);
            self.sight.see(pid);
            match standing.map_err(blind(UNKNOWN_CHILD))? {
                // A zombie that its supervisor has told of is a run without a hello.
                Standing::Zombie if server.member_of(pid).is_some() => {}
                Standing::Zombie => self.has_seen_end |= server.see_zombie(pid),
                Standing::Begins => return Ok(Standing::Begins),
                Standing::AtRest => {}
                Standing::Busy => {
                    self.sight.see_busy(pid);
                    all = Standing::Busy;
                }
            }
        }
        Ok(all)
    }
}
