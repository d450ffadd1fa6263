//! Trials for the rules about when counting begins anew.

use std::num::NonZeroU32;
use std::time::Duration;

use super::scope::crash;
use crate::conformance::trial::{Case, Trial};
use crate::rules::{DelayCurve, Profile, Service, Setting};
use crate::script::Script;
use crate::supervisor::RestartLimit;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        rule: "reset-after-healthy",
        cases: |profile| {
            vec![third_run_is_longer(
                profile,
                healthy(profile) + profile.unit(),
            )]
        },
    },
    Trial {
        rule: "no-early-reset",
        cases: |profile| vec![third_run_is_longer(profile, healthy(profile).mul_f64(0.9))],
    },
    Trial {
        rule: "manual-reset",
        cases: manual_reset,
    },
];

/// Returns how long a run must last to be healthy.
fn healthy(profile: &Profile) -> Duration {
    match profile.limit.reset_after {
        Setting::Fixed(after) => after,
        _ => profile.unit() * 20,
    }
}

/// Asks for delays that double.
fn doubling(service: &mut Service) {
    let unit = service.delays.initial;
    service.delays = DelayCurve::exponential(unit, 2.0, unit * 60);
}

/// Makes a case in which two runs crash at once, the third after `time`, and those after it at once
/// again.
fn third_run_is_longer(profile: &Profile, time: Duration) -> Case {
    let healthy = healthy(profile);
    let crash = crash(profile);
    let script = Script::runs(2, crash.clone())
        .then(Script::runs(1, Script::new().run_for(time).exit(1)))
        .then(crash);
    let case = Case::new("", script, |stage| {
        Box::pin(async move {
            let _live = stage.begin().await?;
            stage.ended(4).await?;
            stage.started().await?;
            Ok(())
        })
    });
    case.ask(move |service| {
        service.reset_after = Some(healthy);
        doubling(service);
    })
}

fn manual_reset(profile: &Profile) -> Vec<Case> {
    let script = Script::runs(2, crash(profile)).then(Script::new().stay());
    // The limit is as many restarts as there are until the reset.
    let restarts = NonZeroU32::new(if profile.limit.first_start_counts {
        3
    } else {
        2
    });
    let restarts = restarts.filter(|_| profile.limit.consecutive.is_configurable());
    let case = Case::new("", script, |stage| {
        Box::pin(async move {
            let live = stage.begin().await?;
            stage.ended(2).await?;
            let run = stage.started().await?;
            stage.pass(0.1).await;
            live.reset().await;
            stage.pass(0.1).await;
            run.exit(1).await;
            stage.next_run().await;
            Ok(())
        })
    });
    vec![case.ask(move |service| {
        doubling(service);
        if let Some(restarts) = restarts {
            service.limit = RestartLimit::Consecutive(restarts);
        }
    })]
}
