//! How long the sim waits for something that is no agent and is at work. It may never come to rest.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::starved::{Waited, ran_for};

/// real-time: how long a wait lasts at most. Time in which one of them is ready to run and gets no processor does not
/// count.
const LONGEST: Duration = Duration::from_secs(1);

/// A wait for others. It begins when it is first asked whether it is over.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    waited: Waited,
    /// The time of the last look, if nobody ran then.
    idle_at: Option<Instant>,
    /// For how long nobody ran, all such times between two looks added up.
    idle: Duration,
    /// How long each had run when it was first seen, in nanoseconds.
    ran: HashMap<u32, u64>,
}

impl Patience {
    /// Whether the wait has lasted for `limit`. `running` are the threads and processes that run, by number.
    ///
    /// While some run, their time on a processor counts: beside enough other work a shell may not get to its next call
    /// for long. While nobody runs, only the time in which nobody ran counts: one that was waited for long because it
    /// ran may have come to rest just now.
    pub(crate) fn is_over(&mut self, limit: Duration, running: &[u32]) -> bool {
        self.is_over_within(limit, LONGEST, running)
    }

    /// Does the same as `is_over`, but the wait is over after `longest` at the latest, whoever runs.
    pub(crate) fn is_over_within(
        &mut self,
        limit: Duration,
        longest: Duration,
        running: &[u32],
    ) -> bool {
        let now = Instant::now();
        let lasted = self.waited.for_these(running);
        let is_idle = running.is_empty();
        if let Some(idle_at) = self.idle_at
            && is_idle
        {
            self.idle += now - idle_at;
        }
        self.idle_at = is_idle.then_some(now);
        let mut ran = 0;
        for &one in running {
            let Some(now) = ran_for(one) else { continue };
            ran += now.saturating_sub(*self.ran.entry(one).or_insert(now));
        }
        let has_run = Duration::from_nanos(ran) > limit && lasted > limit;
        self.idle > limit || !is_idle && has_run || lasted > longest
    }

    /// Ends the wait. The next question begins a new one.
    pub(crate) fn end(&mut self) {
        if self.waited.has_begun() {
            *self = Patience::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(5);

    #[test]
    fn who_sleeps_is_waited_for_that_long() {
        let mut patience = Patience::default();
        assert!(!patience.is_over(LIMIT, &[]));
        let begun = Instant::now();
        while !patience.is_over(LIMIT, &[]) {
            thread::yield_now();
        }
        assert!(begun.elapsed() < LONGEST);
        patience.end();
        assert!(!patience.is_over(LIMIT, &[]));
    }

    #[test]
    fn who_runs_is_waited_for_until_it_has_run_that_long() {
        let this = nix::unistd::gettid().as_raw().unsigned_abs();
        let mut patience = Patience::default();
        assert!(!patience.is_over(LIMIT, &[this]));
        let before = ran_for(this).unwrap();
        while !patience.is_over(LIMIT, &[this]) {}
        assert!(ran_for(this).unwrap() - before >= 5_000_000);
    }

    /// An agent may have had much to do before its hello, which is then on its way.
    #[test]
    fn who_has_come_to_rest_just_now_is_waited_for_anew() {
        let this = nix::unistd::gettid().as_raw().unsigned_abs();
        let mut patience = Patience::default();
        let begun = Instant::now();
        while begun.elapsed() < LIMIT * 2 {
            patience.is_over(LIMIT, &[this]);
        }
        let begun = Instant::now();
        assert!(!patience.is_over(LIMIT, &[]));
        while !patience.is_over(LIMIT, &[]) {
            thread::yield_now();
        }
        assert!(begun.elapsed() > LIMIT);
    }

    /// real-time: it waits for a process that does not run at all.
    #[test]
    fn who_never_gets_to_run_is_given_up_in_the_end() {
        let mut child = std::process::Command::new("/bin/sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let state = || crate::sim::children::state(&format!("/proc/{}", child.id()));
        while state() != Some('S') {
            thread::yield_now();
        }
        let mut patience = Patience::default();
        let begun = Instant::now();
        while !patience.is_over(LIMIT, &[child.id()]) {
            thread::sleep(LIMIT);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(begun.elapsed() >= LONGEST);
    }
    /// real-time: it takes longer than the limit. Both processes are bound to one processor, and the second runs only
    /// while the first has nothing to do: SCHED_IDLE.
    #[test]
    fn who_is_ready_and_gets_no_processor_is_waited_for() {
        let start = |words: &[&str]| {
            let mut command = std::process::Command::new(words[0]);
            command.args(&words[1..]).spawn().unwrap()
        };
        let text = "taskset -pc 0 $$ >&2; while :; do :; done";
        let busy = start(&["taskset", "-c", "0", "sh", "-c", "while :; do :; done"]);
        let idle = start(&["chrt", "--idle", "0", "sh", "-c", text]);
        let is_bound = || {
            let path = format!("/proc/{}/status", idle.id());
            let status = std::fs::read_to_string(path).unwrap();
            status.contains("Cpus_allowed_list:\t0\n")
        };
        while !is_bound() {
            thread::yield_now();
        }
        let mut patience = Patience::default();
        let begun = Instant::now();
        while begun.elapsed() < LONGEST * 2 {
            assert!(!patience.is_over(LONGEST, &[idle.id()]));
            thread::sleep(LIMIT);
        }
        for mut child in [busy, idle] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
