//! Trials for the rules about how ends are told apart.

use super::scope::restarts_freely;
use crate::conformance::trial::{Case, Trial};
use crate::rules::{DelayCurve, Profile};
use crate::script::Script;
use crate::status::ExitStatus;
use crate::supervisor::RestartPolicy;
use agent_stub::Signal;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        rule: "code-exact",
        cases: |profile| {
            // The edges of every bit, of the shell's codes and of sysexits.h.
            let codes = [
                1, 2, 3, 7, 63, 64, 78, 100, 125, 126, 127, 128, 129, 137, 143, 192, 254, 255, 0,
            ];
            ends(profile, &codes.map(|code| ExitStatus::Exited { code }))
        },
    },
    Trial {
        rule: "signal-preserved",
        cases: |profile| {
            let signals = [Signal::KILL, Signal::TERM, Signal::SEGV, Signal::HUP];
            let pairs = signals.map(|signal| {
                let death = ExitStatus::Signaled {
                    signal,
                    core_dumped: false,
                };
                let code = 128 + signal.number();
                [death, ExitStatus::Exited { code }]
            });
            ends(profile, pairs.as_flattened())
        },
    },
    Trial {
        rule: "clean-set",
        cases: clean_set,
    },
    Trial {
        rule: "requested-death-not-failure",
        cases: |_| {
            vec![Case::new("", Script::new().stay(), |stage| {
                Box::pin(async move {
                    let live = stage.begin().await?;
                    stage.started().await?;
                    stage.pass(1.0).await;
                    live.stop().await;
                    live.outcome().await;
                    Ok(())
                })
            })]
        },
    },
];

/// Returns the script of a run that ends with this status.
fn ending(status: ExitStatus) -> Script {
    match status {
        ExitStatus::Exited { code } => Script::new().exit(u8::try_from(code).unwrap_or(u8::MAX)),
        ExitStatus::Signaled { signal, .. } => Script::new().die_by(signal),
    }
}

/// Makes one case with one end after the other if the subject restarts freely, else one case for
/// each end.
fn ends(profile: &Profile, statuses: &[ExitStatus]) -> Vec<Case> {
    let count = statuses.len();
    if restarts_freely(profile) {
        let mut script = Script::runs(0, Script::new());
        for status in statuses {
            script = script.then(Script::runs(1, ending(*status)));
        }
        return vec![case("", script.then(Script::new().stay()), count)];
    }
    let cases = statuses.iter();
    cases
        .map(|status| case(&status.to_string(), ending(*status), 1))
        .collect()
}

fn case(label: &str, script: Script, runs: usize) -> Case {
    let case = Case::new(label, script, move |stage| {
        Box::pin(async move {
            let _live = stage.begin().await?;
            stage.ended(runs).await?;
            // Wait until the subject has reported the end.
            tokio::time::sleep(stage.profile().tolerance().late).await;
            stage.pass(0.2).await;
            Ok(())
        })
    });
    case.ask(|service| {
        service.policy = RestartPolicy::Always;
        service.delays = DelayCurve::constant(service.delays.initial);
    })
}

/// Makes cases of ends that are listed as success, and of ends that are not.
fn clean_set(profile: &Profile) -> Vec<Case> {
    let signaled = |signal| ExitStatus::Signaled {
        signal,
        core_dumped: false,
    };
    let policy = if profile.restarts.policy.is_configurable() {
        RestartPolicy::Never
    } else {
        RestartPolicy::OnFailure
    };
    let statuses = [
        ExitStatus::Exited { code: 0 },
        ExitStatus::Exited { code: 7 },
        ExitStatus::Exited { code: 8 },
        signaled(Signal::USR1),
        signaled(Signal::USR2),
    ];
    let cases = statuses.into_iter().map(|status| {
        let script = Script::runs(1, ending(status)).then(Script::new().stay());
        let case = Case::new(status.to_string(), script, |stage| {
            Box::pin(async move {
                let live = stage.begin().await?;
                stage.ended(1).await?;
                stage.followed(&live).await;
                Ok(())
            })
        });
        case.ask(move |service| {
            service.policy = policy;
            service.success.codes.insert(7);
            service.success.signals.push(Signal::USR1);
        })
    });
    cases.collect()
}
