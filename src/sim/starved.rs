//! Processes that are ready to run and get no processor. While such a process waits for a processor nothing moves, but
//! nothing is stuck, and that time does not count as a wait for it.
//!
//! Linux can leave a process that is ready to run without a processor for ten seconds and more. This happens to a
//! process in a session of its own, on a machine whose processors all have work, because Linux groups processes by
//! session: sched(7).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::children;

/// real-time: how much of such time does not count, at most.
const LONGEST: Duration = Duration::from_secs(60);

/// The processes that were ready to run at the last look.
#[derive(Debug, Default)]
pub(crate) struct Starved {
    /// How long each had run, in nanoseconds.
    ran: HashMap<u32, u64>,
    /// How much time did not count so far.
    spared: Duration,
}

impl Starved {
    /// Whether `time`, the time since the last look, does not count: one of the processes `at_work` was ready to run
    /// then, is still ready, and has not run.
    pub(crate) fn spares(&mut self, at_work: &[u32], time: Duration) -> bool {
        let ready = at_work.iter().filter(|&&pid| is_ready(pid));
        let ran: HashMap<u32, u64> = ready
            .filter_map(|&pid| Some((pid, ran_for(pid)?)))
            .collect();
        let before = std::mem::replace(&mut self.ran, ran);
        let mut now = self.ran.iter();
        let is_starved = now.any(|(pid, ran)| before.get(pid) == Some(ran));
        if is_starved {
            self.spared += time;
        }
        is_starved && self.spared <= LONGEST
    }

    /// Begins anew, because something has moved.
    pub(crate) fn end(&mut self) {
        self.ran.clear();
        self.spared = Duration::ZERO;
    }
}

/// How long somebody has been waited for, without the time in which one of them was ready to run and did not.
#[derive(Debug, Default)]
pub(crate) struct Waited {
    looked_at: Option<Instant>,
    lasted: Duration,
    starved: Starved,
}

impl Waited {
    /// How long these have been waited for, from the first call until now. They are threads and processes, by number.
    pub(crate) fn for_these(&mut self, them: &[u32]) -> Duration {
        let now = Instant::now();
        let time = now - self.looked_at.replace(now).unwrap_or(now);
        if !self.starved.spares(them, time) {
            self.lasted += time;
        }
        self.lasted
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.looked_at.is_some()
    }
}

/// The processes that are ready to run and have that word in their arguments or in their environment.
pub(crate) fn ready_with(word: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_word = |pid: &u32| children::mentions(*pid, word).unwrap_or(false);
    pids.filter(|pid| is_ready(*pid)).filter(has_word).collect()
}

/// How long a thread has run, in nanoseconds: the first field of its schedstat, of proc(5).
pub(crate) fn ran_for(thread: u32) -> Option<u64> {
    let text = children::contents(&format!("/proc/{thread}/schedstat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.split_whitespace().next()?.parse().ok()
}

fn is_ready(pid: u32) -> bool {
    children::state(&format!("/proc/{pid}")) == Some('R')
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const LOOK: Duration = Duration::from_millis(20);

    /// real-time: looks as the watchdog does, until the answer is as expected.
    fn comes_to(starved: &mut Starved, pid: u32, expected: bool) -> bool {
        (0..500).any(|_| {
            std::thread::sleep(LOOK);
            starved.spares(&[pid], LOOK) == expected
        })
    }

    #[test]
    fn what_is_ready_is_told_by_a_word() {
        let text = "while :; do :; done";
        let mut command = Command::new("sh");
        let mut child = command
            .args(["-c", text, "@a-word-of-its-own"])
            .spawn()
            .unwrap();
        while !ready_with("@a-word-of-its-own").contains(&child.id()) {
            std::thread::yield_now();
        }
        assert!(!ready_with("@another-word").contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(ready_with("@a-word-of-its-own"), [0; 0]);
    }

    #[test]
    fn who_sleeps_or_runs_is_not_starved() {
        let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
        let mut starved = Starved::default();
        // real-time: ten looks, in which it would be seen twice in a row if it were starved.
        let is_spared = |starved: &mut Starved, pid| {
            (0..10).any(|_| {
                std::thread::sleep(LOOK);
                starved.spares(&[pid], LOOK)
            })
        };
        assert!(!is_spared(&mut starved, sleeper.id()));
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        let mut runner = Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .unwrap();
        starved.end();
        assert!(comes_to(&mut starved, runner.id(), false));
        runner.kill().unwrap();
        runner.wait().unwrap();
    }

    /// Both processes are bound to one processor, and the second runs only while the first has nothing to do:
    /// SCHED_IDLE.
    #[test]
    fn who_is_ready_and_gets_no_processor_is_starved_for_a_minute() {
        let text = "taskset -pc 0 $$ >&2; while :; do :; done";
        let start = |words: &[&str]| Command::new(words[0]).args(&words[1..]).spawn().unwrap();
        let busy = start(&["taskset", "-c", "0", "sh", "-c", "while :; do :; done"]);
        let idle = start(&["chrt", "--idle", "0", "sh", "-c", text]);
        let mut starved = Starved::default();
        assert!(comes_to(&mut starved, idle.id(), true));
        // real-time: fifty looks, because no condition tells that it will never be spared again.
        starved.spared = LONGEST;
        let mut looks = (0..50).map(|_| {
            std::thread::sleep(LOOK);
            starved.spares(&[idle.id()], LOOK)
        });
        assert!(!looks.any(|is_spared| is_spared));
        for mut child in [busy, idle] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
