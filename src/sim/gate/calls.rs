//! The calls to the gate: tokio's, before it parks and when it goes on, and the body's, around each of its turns.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use nix::sys::signal::{Signal, raise};
use tokio::time::Instant as TokioInstant;

use super::limits::OTHERS;
use super::settling::has_tasks;
use super::state::Gate;
use super::suspects::{Beside, Suspects};
use super::verdict::Verdict;

impl Gate {
    /// Tokio calls this before it parks.
    pub(crate) fn park(&mut self) {
        if !self.left.is_empty() {
            // Tokio has not reaped them yet. The call fails only for what is no signal.
            let _ = raise(Signal::SIGCHLD);
            return self.shared.timer.notify_one();
        }
        let verdict = self.judge();
        let is_open = matches!(verdict, Verdict::Open | Verdict::Pending);
        if !matches!(verdict, Verdict::Over) {
            self.sight.is_open.store(is_open, Ordering::Relaxed);
        }
        if has_tasks() {
            self.sight.see_turn();
        }
        if is_open {
            self.sight.open();
            let opened = self.sight.opened.lock();
            *opened.unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        if !matches!(verdict, Verdict::Open) {
            // A task that is woken keeps tokio from advancing the clock.
            self.shared.timer.notify_one();
        }
        if self.left.is_empty() && !self.holds_body() {
            self.body.pass_on();
        }
    }

    /// Whether the body has to wait: a shell that the body may hear of is still at work, and reaps an agent before it
    /// ends.
    fn holds_body(&mut self) -> bool {
        if self.was_quiet || !self.awaits_reap || !self.body.is_woken() {
            self.held.end();
            return false;
        }
        !self.held.is_over(OTHERS, &self.foreigners.running)
    }

    /// Tokio calls this when it goes on.
    pub(crate) fn unpark(&mut self) {
        self.went_on = Some(TokioInstant::now());
        {
            // Tokio has found what these did.
            let shared = Arc::clone(&self.shared);
            let mut server = shared.lock();
            server.actors.clear();
            server.strange_deaths.clear();
            server.turns_of_code += 1;
            self.await_reaps(&server);
        }
        // What woke the body meanwhile was in order. If somebody was at work, there is more to take in first.
        if self.left.is_empty() && self.was_quiet {
            self.body.pass_on();
        }
    }

    /// Takes in what was done in a turn of the body, after each turn. If the body yields, tokio looks for events
    /// without coming to rest.
    pub(crate) fn settle_after_body(&mut self) {
        let shared = Arc::clone(&self.shared);
        let server = shared.lock();
        if self.sight.is_over.load(Ordering::Acquire)
            || self.sight.why_faulted().is_some()
            || self.check_clock()
        {
            return;
        }
        let (mut server, quiet, news) = self.take_in(&shared, server, Suspects::All, Beside::New);
        // No task runs after the body that could signal anybody.
        self.has_settled = quiet && !has_tasks();
        self.hand_over(&mut server, true);
        if news {
            shared.changed.notify_waiters();
            shared.timer.notify_one();
        }
    }

    /// Notes that the body is being polled.
    pub(crate) fn run(&mut self) {
        self.sight.see_turn();
        self.has_run = true;
        self.has_settled = false;
    }
}
