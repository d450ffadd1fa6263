//! The topics of the rules.

/// The topic of a group of rules, as in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Group {
    /// How a service comes up.
    Start,
    /// How a supervisor tells the ends of runs apart.
    ExitClassification,
    /// Which ends of a run are followed by a restart.
    RestartDecision,
    /// How long the supervisor waits before a restart.
    BackoffAndJitter,
    /// How many starts the supervisor allows.
    RateLimit,
    /// When the supervisor begins to count from zero again.
    Reset,
    /// How a service is stopped.
    Stop,
    /// What happens to the descendants of a service.
    ProcessTree,
    /// How children that have ended are reaped.
    Reaping,
    /// What a child inherits from the supervisor.
    Inheritance,
    /// When a service is up, and whether it is still healthy.
    Readiness,
    /// What happens to the output of a service.
    Output,
    /// What happens when several things happen at the same time.
    Concurrency,
    /// What happens to the children of a supervisor that dies.
    SupervisorCrash,
    /// What happens when a resource runs out.
    Exhaustion,
}

impl Group {
    /// The group's heading on the documentation page.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Group::Start => "Start",
            Group::ExitClassification => "Exit classification",
            Group::RestartDecision => "Restart decision",
            Group::BackoffAndJitter => "Backoff and jitter",
            Group::RateLimit => "Rate limit",
            Group::Reset => "Reset",
            Group::Stop => "Stop and escalation",
            Group::ProcessTree => "Process tree",
            Group::Reaping => "Reaping",
            Group::Inheritance => "File descriptors, environment, signal state",
            Group::Readiness => "Readiness and liveness",
            Group::Output => "Output",
            Group::Concurrency => "Concurrency",
            Group::SupervisorCrash => "Crash of the supervisor",
            Group::Exhaustion => "Resource exhaustion",
        }
    }
}
