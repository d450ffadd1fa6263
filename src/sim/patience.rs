//! How long the sim waits for what is no agent and is at work, which may never come to rest.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::children;

/// real-time: how long it waits at most for who gets no processor.
const STARVED: Duration = Duration::from_secs(1);

/// A wait for others, begun when it is asked first whether it is over.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    since: Option<Instant>,
    /// When nobody ran, at the last look.
    idle_at: Option<Instant>,
    /// How long nobody ran from one look to the next, together.
    idle: Duration,
    /// How long each had run when it was seen first.
    ran: HashMap<u32, u64>,
}

impl Patience {
    /// Whether it has lasted for that time. Of those that run, which are threads and processes by their numbers, it is
    /// the time on a processor that counts: beside enough other work a shell may not get to its next call for long. Else
    /// it is the time for which nobody ran: who was waited for long because it ran may have come to rest just now.
    pub(crate) fn is_over(&mut self, limit: Duration, running: &[u32]) -> bool {
        self.is_over_within(limit, STARVED, running)
    }

    /// The same, where it is over by then, whoever gets no processor.
    pub(crate) fn is_over_within(
        &mut self,
        limit: Duration,
        longest: Duration,
        running: &[u32],
    ) -> bool {
        let now = Instant::now();
        let lasted = now - *self.since.get_or_insert(now);
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

    /// Begins anew.
    pub(crate) fn end(&mut self) {
        if self.since.take().is_some() {
            self.ran.clear();
            (self.idle_at, self.idle) = (None, Duration::ZERO);
        }
    }
}

/// How long a thread has run, in nanoseconds: the first field of its schedstat, of proc(5).
pub(crate) fn ran_for(thread: u32) -> Option<u64> {
    let text = children::contents(&format!("/proc/{thread}/schedstat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.split_whitespace().next()?.parse().ok()
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
        assert!(begun.elapsed() < STARVED);
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

    /// As of one that had much to do before its hello, which is on its way.
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

    /// real-time: it waits for one that does not run at all.
    #[test]
    fn who_never_gets_to_run_is_given_up_in_the_end() {
        let mut child = std::process::Command::new("/bin/sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let state = || children::state(&format!("/proc/{}", child.id()));
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
        assert!(begun.elapsed() >= STARVED);
    }
}
