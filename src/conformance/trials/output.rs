//! Trials for the rules about what a service writes.

use std::rc::Rc;

use agent_stub::script::Placement;

use crate::conformance::folder::Folder;
use crate::conformance::stage::Stage;
use crate::conformance::subject::Local;
use crate::conformance::trial::{Case, Trial};
use crate::conformance::trial_error::TrialError;
use crate::rules::{FLOOD, LAST_WORDS, Setting};
use crate::script::Script;
use crate::supervisor::RestartPolicy;
use agent_stub::Signal;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        rule: "flood-no-block",
        cases: |_| {
            vec![written("", Script::new().flood(FLOOD).exit(0), |stage| {
                Box::pin(async move {
                    let _live = stage.begin().await?;
                    stage.ended(1).await
                })
            })]
        },
    },
    Trial {
        rule: "last-bytes-kept",
        cases: |profile| {
            let words = Script::new().write(LAST_WORDS).exit(1);
            let mut cases = vec![written("written before the exit", words, |stage| {
                Box::pin(async move {
                    let _live = stage.begin().await?;
                    stage.ended(1).await?;
                    stage.pass(1.0).await;
                    Ok(())
                })
            })];
            if profile.stopping.returns.is_some() {
                let signal = match profile.stopping.signal {
                    Setting::Fixed(signal) => signal,
                    _ => Signal::TERM,
                };
                let words = Script::new().write(LAST_WORDS).exit(0);
                let stopped = Script::new().on(signal, words).stay();
                cases.push(written("written on the stop signal", stopped, |stage| {
                    Box::pin(async move {
                        let live = stage.begin().await?;
                        stage.started().await?;
                        stage.pass(1.0).await;
                        live.stop().await;
                        stage.pass(1.0).await;
                        Ok(())
                    })
                }));
            }
            cases
        },
    },
    Trial {
        rule: "held-pipe-exit",
        cases: |profile| {
            let helper = Script::new().stay();
            let script = Script::new()
                .start("helper", Placement::OwnSession, helper)
                .run_for(profile.unit())
                .exit(1);
            vec![written(
                "a helper, in a session of its own, keeps the stdout open",
                script,
                |stage| {
                    Box::pin(async move {
                        let _live = stage.begin().await?;
                        stage.ended(1).await?;
                        stage.pass(2.0).await;
                        Ok(())
                    })
                },
            )]
        },
    },
];

/// Makes a case of a service with one run and a file for its output. The case reads the file when
/// `drive` is over.
fn written(
    label: &str,
    script: Script,
    drive: for<'a> fn(&'a Stage<'a>) -> Local<'a, Result<(), TrialError>>,
) -> Case {
    let folder = Rc::new(Folder::new());
    let path = folder.path("output");
    let output = path.clone();
    let case = Case::new(label, script, move |stage| {
        let (folder, path) = (Rc::clone(&folder), path.clone());
        Box::pin(async move {
            folder.made()?;
            let driven = drive(stage).await;
            let output = std::fs::read(path).ok();
            stage.facts(|facts| facts.output = output);
            driven
        })
    });
    case.ask(move |service| {
        service.policy = RestartPolicy::Never;
        service.output = Some(output.clone());
    })
}
