//! Ending what was found.

use std::collections::BTreeMap;

use agent_stub::Signal;

use super::found::{Fate, Found};
use super::hold::Held;
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

impl Ending {
    /// Stops them all first, until a look shows no new one: what is stopped cannot fork, so nothing
    /// escapes the kill. On an error what was found so far is kept.
    pub(super) fn run(&mut self, wanted: &Wanted<'_>) -> Result<(), Unreadable> {
        for _ in 0..ROUNDS {
            let mut sights = look::settled(wanted)?;
            let mut held: BTreeMap<Identity, (Held, Sight)> = BTreeMap::new();
            loop {
                self.describe(&sights)?;
                let mut more = false;
                for sight in sights {
                    more |= self.stop(sight, &mut held);
                }
                if !more {
                    break;
                }
                sights = look::look(wanted)?;
            }
            if !self.kill(&held) {
                break;
            }
        }
        Ok(())
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

    fn stop(&mut self, sight: Sight, held: &mut BTreeMap<Identity, (Held, Sight)>) -> bool {
        let identity = sight.stat.identity;
        if held.contains_key(&identity) {
            return false;
        }
        let process = match Held::open(identity) {
            Ok(Some(process)) => process,
            Ok(None) => return false,
            Err(error) => {
                self.failed(identity, format!("open a pidfd: {error}"));
                return false;
            }
        };
        if sight.stat.is_zombie() {
            if let Some(found) = self.entry(identity) {
                found.status = process.ended();
            }
        } else if !sight.is_stub_guard {
            // Where this fails, so does the kill, which says it.
            let _ = process.signal(Signal::STOP);
        }
        held.insert(identity, (process, sight));
        true
    }

    /// Whether anything ended that had not.
    fn kill(&mut self, held: &BTreeMap<Identity, (Held, Sight)>) -> bool {
        let mut killed = Vec::new();
        // The youngest first: a parent has no time to react to its child's end.
        for (identity, (process, sight)) in held.iter().rev() {
            if sight.stat.is_zombie() {
                continue;
            }
            tracing::debug!(target: "supervise_harness", pid = identity.pid, "kill a leak");
            match process.signal(Signal::KILL) {
                Ok(()) => killed.push((*identity, process)),
                Err(error) => self.failed(*identity, format!("send SIGKILL: {error}")),
            }
        }
        let mut progress = false;
        for (identity, process) in killed {
            if process.wait_for_end() {
                process.reap();
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
        for (identity, (process, sight)) in held {
            if sight.stat.is_zombie() && process.reap().is_some() {
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
