//! Ending what was found.

use std::collections::BTreeMap;

use agent_stub::Signal;

use super::found::{Fate, Found};
use super::hold::Tie;
use super::look::{self, Sight, Wanted};
use super::proc::{Identity, Unreadable};

/// How often it is looked for more. Each time but the last something has been ended.
const ROUNDS: usize = 64;

/// Ends everything that is wanted, and says what it was.
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) found: Vec<Found>,
    places: BTreeMap<Identity, usize>,
}

/// What was met in one round.
#[derive(Debug)]
struct Met {
    sight: Sight,
    /// Whether it was sent SIGKILL already.
    is_killed: bool,
    /// What kills it with this process, while it is stopped.
    _tie: Option<Tie>,
}

impl Ending {
    /// Ends them, round after round, until a look shows no new one. This process may be killed at any
    /// moment of that, and leaves nothing that is stopped.
    ///
    /// - A stub that bears a mark is killed at once: what it starts meanwhile is found by the mark.
    /// - All else is stopped first, until a look shows no new one: what is stopped cannot fork, and
    ///   what a killed process has forked has lost its parent, by which it could be found. What is
    ///   stopped is [tied](Tie) to this process; where it cannot be, it is killed without that.
    ///
    /// On an error what was found so far is kept, and killed.
    pub(super) fn run(&mut self, wanted: &Wanted<'_>) -> Result<(), Unreadable> {
        for _ in 0..ROUNDS {
            let mut met = BTreeMap::new();
            let looked = self.meet_all(wanted, &mut met);
            let more = self.kill(&met);
            looked?;
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn meet_all(
        &mut self,
        wanted: &Wanted<'_>,
        met: &mut BTreeMap<Identity, Met>,
    ) -> Result<(), Unreadable> {
        let mut sights = look::settled(wanted)?;
        loop {
            self.describe(&sights)?;
            let mut more = false;
            for sight in sights {
                more |= self.meet(sight, met);
            }
            if !more {
                return Ok(());
            }
            sights = look::look(wanted)?;
            // A stub's guard ends with its stub, and on its way out has no arguments by which it could be told.
            let is_guard = |met: &Met| met.sight.is_stub_guard;
            sights.retain(|sight| !met.get(&sight.stat.identity).is_some_and(is_guard));
        }
    }

    fn describe(&mut self, sights: &[Sight]) -> Result<(), Unreadable> {
        for (identity, found) in look::describe(sights)? {
            self.places.entry(identity).or_insert_with(|| {
                self.found.push(found);
                self.found.len() - 1
            });
        }
        Ok(())
    }

    /// Whether it was not met before.
    fn meet(&mut self, sight: Sight, met: &mut BTreeMap<Identity, Met>) -> bool {
        let identity = sight.stat.identity;
        if met.contains_key(&identity) {
            return false;
        }
        let (mut tie, mut is_killed) = (None, false);
        if sight.stat.is_zombie() {
            let status = sight.held().ended();
            if let Some(found) = self.entry(identity) {
                found.status = status;
            }
        } else if sight.is_marked_stub && !sight.is_stub_guard {
            // Where this fails, so does the next, which says it.
            is_killed = sight.held().signal(Signal::KILL).unwrap_or(false);
        } else if !sight.is_stub_guard {
            tie = sight.held().stop();
        }
        let met_now = Met {
            sight,
            is_killed,
            _tie: tie,
        };
        met.insert(identity, met_now);
        true
    }

    /// Whether anything ended that had not.
    fn kill(&mut self, met: &BTreeMap<Identity, Met>) -> bool {
        let mut killed = Vec::new();
        // The oldest first: a parent does not live to react to its child's end, and what is frozen ends
        // before its guard.
        for (identity, one) in met {
            let sight = &one.sight;
            if sight.stat.is_zombie() {
                continue;
            }
            tracing::debug!(target: "supervise_harness", pid = identity.pid, "kill a leak");
            match sight.held().signal(Signal::KILL) {
                Ok(is_there) if is_there || one.is_killed => killed.push((*identity, sight)),
                // Somebody else has ended it.
                Ok(_) => {}
                Err(error) => self.failed(*identity, format!("send SIGKILL: {error}")),
            }
        }
        let mut progress = false;
        for (identity, sight) in killed {
            if sight.held().wait_for_end() {
                sight.held().reap();
                progress = true;
                if let Some(found) = self.entry(identity) {
                    found.fate = Fate::Killed;
                }
            } else {
                let stuck = "SIGKILL was sent, but it is stuck in the kernel";
                self.failed(identity, stuck.to_owned());
            }
        }
        // After the ends of their parents, which may have made them this process's.
        for (identity, Met { sight, .. }) in met {
            if sight.stat.is_zombie() && sight.held().reap().is_some() {
                progress = true;
                if let Some(found) = self.entry(*identity) {
                    found.fate = Fate::Reaped;
                }
            }
        }
        progress
    }

    fn failed(&mut self, identity: Identity, reason: String) {
        if let Some(found) = self.entry(identity) {
            found.fate = Fate::NotEnded { reason };
        }
    }

    fn entry(&mut self, identity: Identity) -> Option<&mut Found> {
        let place = self.places.get(&identity)?;
        self.found.get_mut(*place)
    }
}
