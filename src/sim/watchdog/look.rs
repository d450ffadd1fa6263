//! One look at a sim: whether anything has moved since the last.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::last::Last;
use super::watched::{LOCKED, LOCKED_AGAIN, Watched, lock};
use crate::sim::kernel::sleep_of;
use crate::sim::starved::ready_with;
use crate::timestamp::Timestamp;

/// real-time: how long a sim's thread may sleep while an agent waits for the clock, before the watchdog says so.
const ASLEEP: Duration = Duration::from_millis(100);

/// real-time: how long an agent waits for a descriptor of this process, at most.
const LACKING: Duration = Duration::from_secs(2);

/// The code under test does not wait if, since something last moved, the runtime has taken more turns than this without
/// any sleep, goes on to do so, and nothing else is at work.
const BUSY: u64 = 100;

/// What the server says at a look.
struct Seen {
    progress: u64,
    now: Timestamp,
    /// The process that waits for the clock and is due next.
    waiter: Option<String>,
    excess: Option<String>,
    lives: u64,
    talker: Option<String>,
    is_short: bool,
}

impl Watched {
    pub(super) fn look(&self) {
        let mut last = lock(&self.last);
        let before = last.clock;
        let clock = last.tick();
        if self.shared.is_let_go.load(Ordering::Relaxed) {
            return;
        }
        if let Some(verdict) = self.verdict() {
            drop(last);
            return self.enforce(&verdict, clock);
        }
        let parks = self.sight.parks.load(Ordering::Relaxed);
        let turns = self.sight.turns.load(Ordering::Relaxed);
        let seen = self.see(&mut last);
        if let Some(excess) = seen.as_ref().and_then(|seen| seen.excess.clone()) {
            return self.end(clock, false, |_, _| excess);
        }
        if parks != last.rests.0 {
            last.rests = (parks, clock);
        }
        if let Some(seen) = seen {
            last.lacks = seen.is_short.then(|| last.lacks.unwrap_or(clock));
            // Another sim of this process may free some descriptors.
            let wait = self.limit.min(LACKING);
            if last.lacks.is_some_and(|since| clock - since >= wait) {
                let text = format!("an agent has waited for {wait:?} of real time to be let in");
                return self.end(clock, false, |_, _| text);
            }
            self.look_for_sleep(&mut last, &seen);
            let time_passes = seen.now != last.now.0;
            if time_passes {
                last.now = (seen.now, Some(clock));
            }
            if time_passes || seen.lives != last.lives.0 {
                last.lives = (seen.lives, clock);
            }
            if clock - last.lives.1 >= self.limit
                && let Some(talker) = seen.talker
            {
                let text = format!(
                    "nothing but talk for {:?} of real time\n  {talker}",
                    self.limit
                );
                return self.end(clock, false, |_, _| text);
            }
            // Time that passes towards an agent's deadline gets there.
            if seen.progress != last.progress || time_passes && seen.waiter.is_some() {
                (last.progress, last.turns, last.at) = (seen.progress, turns, clock);
                last.starved.end();
                return;
            }
        }
        if clock - last.at >= self.limit / 2 {
            let time = clock - before;
            if last.starved.spares(&self.at_work(), time) {
                last.at += time;
            }
        }
        if clock - last.at < self.limit {
            return;
        }
        // Only recent turns count: long ago the code under test may have waited for something that was at work.
        let is_turning = clock - last.rests.1 < self.limit / 4;
        let is_busy = is_turning && turns - last.turns > BUSY;
        let passed = last.now.1;
        let time_passes = passed.is_some_and(|at| clock - at < self.limit / 4);
        // Half the limit will do: nothing may have moved for a while before the thread was blocked.
        let is_held =
            clock - last.rests.1 >= self.limit / 2 && !self.sight.is_parked.load(Ordering::Relaxed);
        self.end(clock, is_held, |server, foreign| {
            self.diagnose(server, foreign, is_busy, is_held, time_passes)
        });
    }

    /// The processes that time may wait for: agents, processes that are about to be agents, and others that are no
    /// agents.
    fn at_work(&self) -> Vec<u32> {
        let address = self.shared.lock_within(LOCKED_AGAIN);
        let address = address.map(|server| server.address().to_owned());
        // An agent that is at rest is not ready to run, so it is not among these.
        let mut all = address.map_or_else(Vec::new, |address| ready_with(&address));
        self.each_foreign(|pid, _| all.push(pid));
        all
    }

    /// What the server says now. `None` if somebody holds the server's lock all the time.
    fn see(&self, last: &mut Last) -> Option<Seen> {
        let patience = if last.is_locked_out {
            LOCKED_AGAIN
        } else {
            LOCKED
        };
        let server = self.shared.lock_within(patience);
        last.is_locked_out = server.is_none();
        let server = server?;
        Some(Seen {
            // Each end counts: code that starts one program after the other is not stuck.
            progress: server.progress + server.ends,
            now: server.now,
            waiter: server.next_waiter().map(ToString::to_string),
            excess: server.excess().map(str::to_owned),
            lives: server.lives,
            talker: server.talker(),
            is_short: server.is_short(),
        })
    }

    /// Says, once, that the sim's thread sleeps in real time while an agent waits for the clock. This holds up
    /// everybody.
    fn look_for_sleep(&self, last: &mut Last, seen: &Seen) {
        let is_parked = self.sight.is_parked.load(Ordering::Relaxed);
        let waiter = seen.waiter.as_ref().filter(|_| !is_parked);
        let now = waiter.and_then(|_| sleep_of(self.thread));
        let (Some(waiter), Some(now)) = (waiter, now) else {
            last.sleep = None;
            return;
        };
        let rests = last.rests.0;
        let since = match &last.sleep {
            Some((before, at, since)) if (before, *at) == (&now, rests) => *since,
            _ => last.clock,
        };
        last.sleep = Some((now, rests, since));
        let mut remarks = lock(&self.remarks);
        if last.clock - since < ASLEEP || !remarks.is_empty() {
            return;
        }
        let remark = format!(
            "the code under test sleeps on the sim's thread, for more than {ASLEEP:?} of real time, while \
             {waiter} waits for the clock, which stands still meanwhile: write \
             `tokio::time::sleep(...).await` instead of `std::thread::sleep`"
        );
        crate::said::say(&self.titled(&remark));
        remarks.push(remark);
    }
}
