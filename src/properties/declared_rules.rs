//! The rules that a restart decider is made with, and what it declares about itself.

use std::time::Duration;

use super::seed::seed;
use crate::rules::DelayOrigin;
use crate::supervisor::{
    Decision, PolicyError, RestartLimit, RestartPolicy, RestartTracker, RunEnd,
};
use crate::timestamp::Timestamp;
use agent_stub::Signal;

/// Decides what follows the end of a run. [`RestartTracker`] is a decider.
pub trait Decider {
    /// Decides what follows this end, which happened at `now`.
    fn decide(&mut self, end: &RunEnd, now: Timestamp) -> Decision;

    /// Tells the decider that a stop was requested.
    fn stop(&mut self);

    /// Tells the decider that somebody starts the child explicitly, or clears its failures.
    fn reset(&mut self);
}

impl<D: Decider + ?Sized> Decider for Box<D> {
    fn decide(&mut self, end: &RunEnd, now: Timestamp) -> Decision {
        (**self).decide(end, now)
    }

    fn stop(&mut self) {
        (**self).stop();
    }

    fn reset(&mut self) {
        (**self).reset();
    }
}

impl Decider for RestartTracker {
    fn decide(&mut self, end: &RunEnd, now: Timestamp) -> Decision {
        RestartTracker::decide(self, end, now)
    }

    fn stop(&mut self) {
        RestartTracker::stop(self);
    }

    fn reset(&mut self) {
        RestartTracker::reset(self);
    }
}

/// A limit as a user may write it. Here it can be 0 or have a period of zero, and a factory must
/// refuse such a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitRule {
    /// Any number of restarts.
    #[default]
    Unlimited,
    /// This many restarts in a row.
    Consecutive(u32),
    /// This many restarts in a sliding window.
    Window {
        /// The number of restarts allowed.
        restarts: u32,
        /// The length of the window.
        within: Duration,
    },
}

/// The rules with which the checks ask a factory to make a decider. Defaults: restart on failure,
/// no limit, no reset after a healthy run, and only exit code 0 is a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartRules {
    /// The policy.
    pub policy: RestartPolicy,
    /// The limit.
    pub limit: LimitRule,
    /// How long a run must be up to count as healthy; `None` means that no run does.
    pub reset_after: Option<Duration>,
    /// The exit codes that are a success.
    pub success_codes: Vec<i32>,
    /// The signals for which it is a success if they kill a run.
    pub success_signals: Vec<Signal>,
    /// The exit codes after which there is never a restart. They beat `force_codes`.
    pub prevent_codes: Vec<i32>,
    /// The signals after which there is never a restart if they kill a run. They beat
    /// `force_signals`.
    pub prevent_signals: Vec<Signal>,
    /// The exit codes after which there is always a restart.
    pub force_codes: Vec<i32>,
    /// The signals after which there is always a restart if they kill a run.
    pub force_signals: Vec<Signal>,
}

impl Default for RestartRules {
    fn default() -> RestartRules {
        RestartRules {
            policy: RestartPolicy::default(),
            limit: LimitRule::default(),
            reset_after: None,
            success_codes: vec![0],
            success_signals: Vec::new(),
            prevent_codes: Vec::new(),
            prevent_signals: Vec::new(),
            force_codes: Vec::new(),
            force_signals: Vec::new(),
        }
    }
}

impl RestartRules {
    /// The default rules with this policy.
    #[must_use]
    pub fn of(policy: RestartPolicy) -> RestartRules {
        RestartRules {
            policy,
            ..RestartRules::default()
        }
    }

    /// These rules with this limit.
    #[must_use]
    pub fn limit(mut self, limit: LimitRule) -> RestartRules {
        self.limit = limit;
        self
    }

    /// These rules with this reset period.
    #[must_use]
    pub fn reset_after(mut self, healthy: Duration) -> RestartRules {
        self.reset_after = Some(healthy);
        self
    }

    /// Makes a [`RestartTracker`] with these rules.
    ///
    /// # Errors
    ///
    /// The same as of [`RestartTrackerBuilder::build`](crate::supervisor::RestartTrackerBuilder::build) and of
    /// the constructors of [`RestartLimit`].
    pub fn tracker(&self) -> Result<RestartTracker, PolicyError> {
        let limit = match self.limit {
            LimitRule::Unlimited => RestartLimit::Unlimited,
            LimitRule::Consecutive(restarts) => RestartLimit::consecutive(restarts)?,
            LimitRule::Window { restarts, within } => RestartLimit::window(restarts, within)?,
        };
        let mut builder = RestartTracker::builder()
            .policy(self.policy)
            .limit(limit)
            .success_codes(self.success_codes.iter().copied())
            .success_signals(self.success_signals.iter().copied())
            .prevent_restart_codes(self.prevent_codes.iter().copied())
            .prevent_restart_signals(self.prevent_signals.iter().copied())
            .force_restart_codes(self.force_codes.iter().copied())
            .force_restart_signals(self.force_signals.iter().copied());
        if let Some(healthy) = self.reset_after {
            builder = builder.reset_after(healthy);
        }
        builder.build()
    }
}

/// Whether a restart that is exactly as old as the window still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowEdge {
    /// The restart still counts, as in OTP and [`RestartLimit::Window`].
    Closed,
    /// The restart has left the window.
    Open,
}

/// What a decider or a restart loop declares about itself, where real systems differ. It also sets
/// how many cases the checks generate, and from which seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct RestartParams {
    pub(super) window_edge: WindowEdge,
    pub(super) first_start_counts: bool,
    pub(super) delay_origin: DelayOrigin,
    pub(super) cases: u32,
    pub(super) seed: u64,
}

impl Default for RestartParams {
    fn default() -> RestartParams {
        RestartParams::new()
    }
}

impl RestartParams {
    /// Declares what holds for [`RestartTracker`] and [`RestartLoop`](crate::supervisor::RestartLoop): a closed
    /// window, a first start that does not count, and delays that count from the end.
    ///
    /// # Panics
    ///
    /// If `SUPERVISE_SEED` is set and is not a number from 0 to 2⁶⁴ − 1.
    pub fn new() -> RestartParams {
        RestartParams {
            window_edge: WindowEdge::Closed,
            first_start_counts: false,
            delay_origin: DelayOrigin::Exit,
            cases: 64,
            seed: seed(),
        }
    }

    /// Declares the edge of the window. Default: closed.
    pub fn window_edge(mut self, edge: WindowEdge) -> Self {
        self.window_edge = edge;
        self
    }

    /// Declares that the first start counts against the limit, as in systemd's `StartLimitBurst=`.
    /// A limit of N then allows N − 1 restarts. Default: the first start does not count.
    pub fn first_start_counts(mut self) -> Self {
        self.first_start_counts = true;
        self
    }

    /// Declares where a loop's delays count from. Default: the end.
    pub fn delay_origin(mut self, origin: DelayOrigin) -> Self {
        self.delay_origin = origin;
        self
    }

    /// Sets how many cases each check generates. Default: 64.
    pub fn cases(mut self, cases: u32) -> Self {
        self.cases = cases;
        self
    }

    /// Sets the seed of the generated cases. Default: `SUPERVISE_SEED`, or 0 if it is not set.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The number of restarts that a limit of `n` allows.
    pub(super) fn allowed(&self, n: u32) -> u32 {
        n - u32::from(self.first_start_counts)
    }
}
