//! Ends what was found.

use std::collections::BTreeMap;

use agent_stub::Signal;

use super::found::{Fate, Found};
use super::hold::Tie;
use super::look::{self, Roots, Sight, Wanted};
use super::proc::{self, Identity, Unreadable};

/// How many rounds there are at most. Every round but the last has ended something.
const ROUNDS: usize = 64;

/// Ends every process that is wanted, and says which they were.
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) found: Vec<Found>,
    places: BTreeMap<Identity, usize>,
}

/// A process that was met in this round.
#[derive(Debug)]
struct Met {
    sight: Sight,
    /// Whether SIGKILL was already sent to it.
    is_killed: bool,
    /// Has the kernel kill it if this process ends, while it is stopped.
    _tie: Option<Tie>,
}

impl Ending {
    /// Ends the processes, round after round, until a round ends nothing. This process may be killed at any
    /// moment meanwhile, and then leaves no stopped process behind.
    ///
    /// - A stub that bears a mark is killed at once. What it starts meanwhile is found by the mark.
    /// - Every other process is stopped first, until a look shows no new one. A stopped process cannot fork.
    ///   If it were killed at once, what it has forked would lose the parent by which it can be found. A
    ///   stopped process is [tied](Tie) to this one. A process that cannot be tied is killed without a stop.
    ///
    /// On an error, the processes that were found so far are kept, and killed.
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
            // A stub's guard ends with its stub. On its way out it has no arguments by which it could be
            // recognised.
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

    /// Stops or kills a process that was not met in this round before. Returns whether it was new.
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
            // If this fails, the next kill fails, too, and says so.
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

    /// Kills and reaps the processes that were met. Returns whether any process was ended or reaped.
    fn kill(&mut self, met: &BTreeMap<Identity, Met>) -> bool {
        let mut killed = Vec::new();
        // The oldest first. So a parent does not live to react to its child's end, and a frozen stub ends
        // before its guard.
        for (identity, one) in met {
            let sight = &one.sight;
            if sight.stat.is_zombie() {
                continue;
            }
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
        // After the ends of their parents, which may have made these zombies children of this process.
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

/// Ends these processes, whoever their parent is: those that bear one of the marks as a whole word
/// in their environment or their arguments; and the roots, with all processes below them. It never
/// ends this process. Returns what it found.
pub(crate) fn end_processes_of(
    marks: &[String],
    roots: &[Identity],
) -> Result<Vec<Found>, Unreadable> {
    let mut ending = Ending::default();
    ending.run(&Wanted {
        marks,
        // This process has made the marks, so no older process bears one.
        since: proc::this_process()?.identity.start,
        roots: Roots::These(roots),
        leaders: &[],
    })?;
    Ok(ending.found)
}
