//! The supervisor group, which keeps several agents running together.

// In the order of the data flow.
mod outcome;

mod turns;

pub use outcome::GroupOutcome;

use std::collections::BTreeSet;

use tokio::sync::{mpsc, watch};

use super::builder::runtime;
use super::error::SupervisorError;
use super::event::{Status, SupervisorEvents};
use super::request::Link;
use super::settings::SupervisorBuilder;
use crate::supervisor::policy::{GiveUpScope, SiblingStrategy};
use turns::Turns;

/// Keeps several agents running together. They are the children of the group, and it keeps each one
/// running as a [`Supervisor`](crate::supervisor::Supervisor) does.
///
/// Detailed operation, in addition to that of each child:
///
/// 1. The group starts the children in the order in which the builder was given them. It starts
///    each child when the child before it rests or is up, as its [`Readiness`](crate::supervisor::Readiness)
///    defines it.
/// 2. A child that is to be restarted waits for its own delay. Meanwhile the group stops the
///    children that the [`SiblingStrategy`] replaces with it, from the last to the first. It stops
///    each child when the child after it was reaped. When no delay is left, the group starts them
///    as in step 1. The stops of a replacement change no counts, and a child that rests stays at
///    rest.
/// 3. When a child is given up, the group stops for good the children that the [`GiveUpScope`]
///    names, in the same order. It never starts them again.
/// 4. A stop stops all children, in the same order. When all children rest, the group rests, too,
///    with a [`GroupOutcome`] and for good.
///
/// Dropping the group kills all agents and their process groups, without a grace, as dropping a
/// supervisor does.
///
/// Source: OTP `supervisor`; `After=` of systemd.unit(5).
///
/// ```
/// use supervise_harness::supervisor::{
///     GroupOutcome, Readiness, SiblingStrategy, SpawnerOptions, Supervisor, SupervisorGroup,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let child = |name: &str, script: &str| {
///     let options = SpawnerOptions::new().agent_path(agent_stub::path()?);
///     let spawner = options.args(["--script", script]).build()?;
///     Ok::<_, Box<dyn std::error::Error>>(Supervisor::builder(spawner, name))
/// };
/// let (group, mut events) = SupervisorGroup::builder()
///     .child(child("store", "ready fd 3; stay")?.readiness(Readiness::Notified))
///     .child(child("api", "stay")?)
///     .strategy(SiblingStrategy::RestForOne)
///     .start()?;
///
/// // The second was started, so the first is up.
/// let (_, event) = events[1].next().await.expect("an event");
/// assert_eq!(event.to_string(), "run 1 started");
/// assert!(matches!(group.stop().await?, GroupOutcome::Stopped));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping the group kills its agents"]
pub struct SupervisorGroup {
    stops: mpsc::UnboundedSender<()>,
    statuses: Vec<watch::Receiver<Status>>,
    outcome: watch::Receiver<Option<GroupOutcome>>,
}

/// Builds a [`SupervisorGroup`].
#[derive(Debug)]
#[must_use]
pub struct SupervisorGroupBuilder {
    children: Vec<SupervisorBuilder>,
    strategy: SiblingStrategy,
    give_up: GiveUpScope,
}

impl SupervisorGroup {
    /// Starts to build a group. It has no children yet.
    ///
    /// Defaults: a restart of one child replaces only that child; giving up on one child ends the
    /// group.
    pub fn builder() -> SupervisorGroupBuilder {
        SupervisorGroupBuilder {
            children: Vec::new(),
            strategy: SiblingStrategy::default(),
            give_up: GiveUpScope::default(),
        }
    }

    /// Waits until the group rests: until all its children rest. Returns the outcome.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Gone`] if the task of the group or of a child has ended: its runtime is
    /// gone, or a backoff panicked.
    pub async fn wait(&self) -> Result<GroupOutcome, SupervisorError> {
        let mut outcome = self.outcome.clone();
        let rests = outcome.wait_for(Option::is_some).await;
        let outcome = rests.ok().and_then(|outcome| outcome.clone());
        outcome.ok_or(SupervisorError::Gone)
    }

    /// Stops all children, from the last to the first, and returns after the first was reaped. If
    /// the group already rests, does nothing and returns the outcome that it rests with.
    ///
    /// Dropping the future does not cancel the stop.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Gone`], as for [`wait`](SupervisorGroup::wait).
    pub async fn stop(&self) -> Result<GroupOutcome, SupervisorError> {
        // This fails if the group rests: its task has ended.
        let _ = self.stops.send(());
        self.wait().await
    }

    /// Returns what each child does now, in the order in which the children are started.
    #[must_use]
    pub fn statuses(&self) -> Vec<Status> {
        let now = |status: &watch::Receiver<Status>| status.borrow().clone();
        self.statuses.iter().map(now).collect()
    }
}

impl SupervisorGroupBuilder {
    /// Adds a child. The group starts it after those that were added before.
    pub fn child(mut self, child: SupervisorBuilder) -> Self {
        self.children.push(child);
        self
    }

    /// Sets which children a restart of one child replaces.
    pub fn strategy(mut self, strategy: SiblingStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Sets which children end when one is given up.
    pub fn give_up(mut self, scope: GiveUpScope) -> Self {
        self.give_up = scope;
        self
    }

    /// Starts the group on the current runtime. Also returns the events of each child, in the order
    /// of the children.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::NoChildren`] without a child; [`SupervisorError::SameName`] if two
    /// children have the same name; otherwise as for [`SupervisorBuilder::start`]. After an error,
    /// nothing was started.
    pub fn start(mut self) -> Result<(SupervisorGroup, Vec<SupervisorEvents>), SupervisorError> {
        if self.children.is_empty() {
            return Err(SupervisorError::NoChildren);
        }
        let mut names = BTreeSet::new();
        for child in &self.children {
            if !names.insert(child.agent_id.as_str()) {
                return Err(SupervisorError::SameName {
                    agent_id: child.agent_id.clone(),
                });
            }
            child.validate()?;
        }
        let runtime = runtime()?;
        for child in &mut self.children {
            child.take_lock()?;
        }
        let (news_sender, news) = mpsc::unbounded_channel();
        let mut turns = Turns::new(self.strategy, self.give_up);
        let (mut statuses, mut events) = (Vec::new(), Vec::new());
        for (place, child) in self.children.into_iter().enumerate() {
            let agent_id = child.agent_id.clone();
            let link = Link {
                place,
                news: news_sender.clone(),
            };
            let (supervisor, its_events) = child.launch(&runtime, Some(link));
            statuses.push(supervisor.status.clone());
            events.push(its_events);
            turns.add(agent_id, supervisor);
        }
        let (stops, stopped) = mpsc::unbounded_channel();
        let (outcomes, outcome) = watch::channel(None);
        runtime.spawn(turns.take(news, stopped, outcomes));
        let group = SupervisorGroup {
            stops,
            statuses,
            outcome,
        };
        Ok((group, events))
    }
}
