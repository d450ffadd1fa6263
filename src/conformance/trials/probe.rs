//! The cases of the rule about what follows when a service fails its probes.

use std::num::NonZeroU32;

use super::stop::{grace_of, order_exit, signal_of};
use crate::conformance::stage::Stage;
use crate::conformance::subject::Local;
use crate::conformance::trial::Case;
use crate::conformance::trial_error::TrialError;
use crate::rules::{DelayCurve, PROBE, Profile};
use crate::script::Script;
use crate::supervisor::Probe;
use crate::supervisor::RestartPolicy;

/// How many failed probes in a row end a run.
const MOST: NonZeroU32 = NonZeroU32::new(3).unwrap();

/// Returns the script of a probe that fails.
fn fails() -> Script {
    Script::new().exit(1)
}

/// Returns the scripts of the probes. For each row, `count` probes perform its script, and then one
/// probe succeeds. All later probes succeed.
fn probes(rows: &[(u32, Script)]) -> Script {
    let succeeds = || Script::new().exit(0);
    let rows = rows
        .iter()
        .map(|(count, script)| Script::runs(*count, script.clone()));
    let rows = rows.map(|row| row.then(Script::runs(1, succeeds())));
    let first = rows.reduce(Script::then).unwrap_or_default();
    first.then(succeeds())
}

type Drive = for<'a> fn(&'a Stage<'a>) -> Local<'a, Result<(), TrialError>>;

/// Returns the cases of `probe-failure-policy`. Three failures in a row end a run. The period is
/// two units. The timeout is one unit, or four in the case with probes longer than the period.
///
/// The service takes half its grace to stop, in which there is room for a period, and then exits
/// with 0. The delay is longer than a run, so that it shows whatever it is counted from.
pub(super) fn cases(profile: &Profile) -> Vec<Case> {
    let unit = profile.unit();
    let signal = signal_of(profile);
    let grace = grace_of(profile, 6);
    let case = |label: &str, policy: RestartPolicy, timeout: u32, script: Script, drive: Drive| {
        let slow = Script::new().run_for(grace / 2).exit(0);
        Case::new(label, Script::new().on(signal, slow), move |stage| {
            stage.probed_by(script.clone());
            drive(stage)
        })
        .ask(move |service| {
            service.policy = policy;
            service.delays = DelayCurve::constant(unit * 12);
            service.grace = grace;
            let probe = Probe::new("").every(unit * 2).timeout(unit * timeout);
            service.probe = Some(probe.failures(MOST));
        })
    };
    let on_failure = RestartPolicy::OnFailure;
    let slow = |code| Script::new().run_for(unit / 2).exit(code);
    let mut cases = vec![
        case(
            "two fail, one succeeds, two fail",
            on_failure,
            1,
            probes(&[(2, fails()), (2, fails())]),
            |stage| Box::pin(look_on(stage, 6)),
        ),
        case(
            "each takes longer than the period",
            on_failure,
            4,
            Script::new().run_for(unit * 3).exit(0),
            |stage| Box::pin(look_on(stage, 3)),
        ),
        case(
            "three fail, and two of the next run",
            on_failure,
            1,
            probes(&[(5, fails())]),
            |stage| Box::pin(fail(stage)),
        ),
        case(
            "three hang",
            on_failure,
            1,
            probes(&[(3, Script::new().stay())]),
            |stage| Box::pin(fail(stage)),
        ),
        case(
            "it crashes while a third probe is about to fail",
            on_failure,
            1,
            probes(&[(5, slow(1))]),
            |stage| Box::pin(crash(stage)),
        ),
    ];
    if profile.restarts.policy.is_configurable() {
        cases.push(case(
            "three fail, and nothing is ever restarted",
            RestartPolicy::Never,
            1,
            fails(),
            |stage| Box::pin(fail_for_good(stage)),
        ));
    }
    cases
}

/// Waits until so many more probes have ended.
async fn answers(stage: &Stage<'_>, count: u32) -> Result<(), TrialError> {
    for _ in 0..count {
        let probe = stage.started_of(PROBE).await?;
        if stage.wait(probe.ended()).await.is_none() {
            return Err(TrialError(format!(
                "probe {} has not ended",
                probe.number()
            )));
        }
    }
    Ok(())
}

/// Watches so many probes. The subject must not end the run.
async fn look_on<'a>(stage: &'a Stage<'a>, count: u32) -> Result<(), TrialError> {
    let _live = stage.begin().await?;
    answers(stage, count).await?;
    stage.pass(1.0).await;
    Ok(())
}

/// A run fails its probes and is ended. The next run does not fail enough probes to be ended.
async fn fail<'a>(stage: &'a Stage<'a>) -> Result<(), TrialError> {
    let _live = stage.begin().await?;
    answers(stage, MOST.get()).await?;
    stage.ended(1).await?;
    stage.next_run().await;
    answers(stage, MOST.get()).await?;
    stage.pass(1.0).await;
    Ok(())
}

/// A run fails its probes and is ended. There is no other run.
async fn fail_for_good<'a>(stage: &'a Stage<'a>) -> Result<(), TrialError> {
    let live = stage.begin().await?;
    answers(stage, MOST.get()).await?;
    stage.ended(1).await?;
    stage.followed(&live).await;
    stage.pass(1.0).await;
    Ok(())
}

/// A run ends by itself when one more failed probe would have ended it.
async fn crash<'a>(stage: &'a Stage<'a>) -> Result<(), TrialError> {
    let _live = stage.begin().await?;
    let run = stage.started().await?;
    answers(stage, MOST.get() - 1).await?;
    stage.started_of(PROBE).await?;
    stage.pass(0.25).await;
    order_exit(&run, 1)?;
    stage.wait(run.ended()).await;
    stage.next_run().await;
    answers(stage, MOST.get()).await?;
    stage.pass(1.0).await;
    Ok(())
}
