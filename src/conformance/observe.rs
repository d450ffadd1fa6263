//! Watches a service that a subject keeps running, without judging it by a rule.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use super::live::Live;
use super::stage::Stage;
use super::subject::Subject;
use super::trial_error::TrialError;
use crate::rules::{Observed, Service};
use crate::script::Script;
use crate::sim::Sim;

/// What a subject is told about its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
#[non_exhaustive]
pub enum Step {
    /// Stop the service.
    Stop,
    /// Start the service.
    Start,
    /// Restart the service.
    Restart,
    /// Forget what it has counted.
    Reset,
    /// Wait until it rests, and say how it came to rest.
    Outcome,
}

/// What the service's runs do, and what its supervisor is told when.
#[doc(hidden)]
#[derive(Debug)]
pub struct Plan<'a> {
    /// What the service's runs do.
    pub script: Script,
    /// What the runs of the service's probe do, if it has one.
    pub probe: Script,
    /// What the supervisor is told, each with the time after the begin. No step waits for the
    /// answer to another.
    pub steps: &'a [(Duration, Step)],
    /// How long the service is watched.
    pub lasts: Duration,
}

/// Has a subject keep a service running in virtual time as planned, and returns what was seen. The
/// result does not count as the trial of any rule.
///
/// # Errors
///
/// If the sim fails. It is not an error that the subject does not begin.
#[doc(hidden)]
pub fn observe<S>(
    subject: &S,
    ask: &dyn Fn(&mut Service),
    plan: &Plan<'_>,
) -> Result<Observed, crate::sim::SimFailure>
where
    S: Subject,
    S::Session: 'static,
{
    let profile = subject.profile();
    let sim = Sim::builder().allow_leaks().build();
    let sim = sim.map_err(|error| crate::sim::SimFailure::setup(error.to_string()))?;
    let mut observed = None;
    sim.try_run(async |handle| {
        let stage = Stage::new(handle, subject, &profile, plan.script.clone(), ask);
        // If the subject refuses to begin, that is part of what was seen.
        let _ = play(&stage, plan).await;
        observed = Some(stage.observed());
    })?;
    observed.ok_or_else(|| crate::sim::SimFailure::setup("nothing was observed".to_owned()))
}

async fn play<'a>(stage: &'a Stage<'a>, plan: &Plan<'_>) -> Result<(), TrialError> {
    if stage.service().probe.is_some() {
        stage.probed_by(plan.probe.clone());
    }
    let over = tokio::time::sleep(plan.lasts);
    let live = stage.begin().await?;
    let steps = plan.steps.iter().map(|(at, step)| take(&live, *at, *step));
    let steps: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> =
        steps.map(|step| Box::pin(step) as _).collect();
    tokio::select! {
        biased;
        () = over => {}
        () = all(steps) => {}
    }
    Ok(())
}

async fn take(live: &Live<'_>, at: Duration, step: Step) {
    tokio::time::sleep(at).await;
    match step {
        Step::Stop => drop(live.stop().await),
        Step::Start => drop(live.start().await),
        Step::Restart => drop(live.restart().await),
        Step::Reset => drop(live.reset().await),
        Step::Outcome => drop(live.outcome().await),
    }
}

/// Polls all steps, in their order, and never completes.
async fn all(mut steps: Vec<Pin<Box<dyn Future<Output = ()> + '_>>>) {
    poll_fn(|context| {
        steps.retain_mut(|step| step.as_mut().poll(context).is_pending());
        Poll::<()>::Pending
    })
    .await;
}
