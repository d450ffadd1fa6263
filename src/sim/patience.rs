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
    /// How long each had run when it was seen first.
    ran: HashMap<u32, u64>,
}

impl Patience {
    /// Whether it has lasted for that time. Of those that run, which are threads and processes by their numbers, it is
    /// the time on a processor that counts: beside enough other work a shell may not get to its next call for long.
    pub(crate) fn is_over(&mut self, limit: Duration, running: &[u32]) -> bool {
        let lasted = self.since.get_or_insert_with(Instant::now).elapsed();
        let mut ran = 0;
        for &one in running {
            let Some(now) = ran_for(one) else { continue };
            ran += now.saturating_sub(*self.ran.entry(one).or_insert(now));
        }
        let is_starved = !running.is_empty() && Duration::from_nanos(ran) <= limit;
        lasted > limit && !is_starved || lasted > STARVED
    }

    /// Begins anew.
    pub(crate) fn end(&mut self) {
        if self.since.take().is_some() {
            self.ran.clear();
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
