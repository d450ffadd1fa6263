//! Trials for the rules about what happens when something runs out, or is not there.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::rc::Rc;

use super::stop::{order_exit, settled};
use crate::conformance::folder::Folder;
use crate::conformance::live::Live;
use crate::conformance::shortage::{Lack, Shortage};
use crate::conformance::stage::Stage;
use crate::conformance::trial::{Case, Trial};
use crate::conformance::trial_error::TrialError;
use crate::rules::{CLEARED, DelayCurve, Notice, Profile, SHORT};
use crate::script::Script;
use crate::supervisor::RestartPolicy;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        rule: "fork-eagain",
        cases: |profile| short_for_a_while(profile, Lack::Processes),
    },
    Trial {
        rule: "emfile",
        cases: |profile| short_for_a_while(profile, Lack::Descriptors),
    },
    Trial {
        rule: "enoent-eacces",
        cases: |profile| {
            vec![
                broken_for_a_while("the program is missing", profile, |_| Ok(None)),
                broken_for_a_while("the program may not be executed", profile, |folder| {
                    let path = folder.path("program");
                    fs::write(&path, "")?;
                    fs::set_permissions(&path, Permissions::from_mode(0o000))?;
                    Ok(None)
                }),
            ]
        },
    },
    Trial {
        rule: "etxtbsy",
        cases: |profile| {
            vec![broken_for_a_while(
                "the program is open for writing",
                profile,
                |folder| {
                    let mut options = OpenOptions::new();
                    options.write(true).create_new(true).mode(0o755);
                    options.open(folder.path("program")).map(Some)
                },
            )]
        },
    },
    Trial {
        rule: "exec-error-distinct",
        cases: |_| {
            let said =
                |notice: &Notice| matches!(notice, Notice::StartFailed(_) | Notice::Ended(_));
            let missing = Case::new("there is no such program", Script::new(), move |stage| {
                Box::pin(async move {
                    let _live = stage.begin().await?;
                    stage.heard(1, said).await
                })
            });
            let code = |code: u8| {
                let label = format!("the program exits with {code}");
                let case = Case::new(label, Script::new().exit(code), move |stage| {
                    Box::pin(async move {
                        let _live = stage.begin().await?;
                        stage.ended(1).await?;
                        stage.heard(1, said).await
                    })
                });
                case.ask(|service| service.policy = RestartPolicy::Never)
            };
            vec![
                missing.ask(|service| {
                    service.policy = RestartPolicy::Never;
                    service.program = "/nonexistent/program".into();
                }),
                code(126),
                code(127),
            ]
        },
    },
    Trial {
        rule: "log-open-error",
        cases: |profile| {
            let unit = profile.unit();
            let folder = Rc::new(Folder::new());
            let path = folder.path("output");
            let output = path.clone();
            let case = Case::new(
                "the path is a directory",
                Script::new().stay(),
                move |stage| {
                    let (folder, path) = (Rc::clone(&folder), path.clone());
                    Box::pin(async move {
                        folder.made()?;
                        fs::create_dir(&path)
                            .map_err(|error| TrialError::of("the folder", &error))?;
                        let live = stage.begin().await;
                        stage.pass(2.5).await;
                        fs::remove_dir(&path)
                            .map_err(|error| TrialError::of("the folder", &error))?;
                        clear(stage);
                        // If the subject has refused to begin, ask it again.
                        let _live = match live {
                            Ok(live) => live,
                            Err(_) => stage.begin().await?,
                        };
                        stage.started().await?;
                        Ok(())
                    })
                },
            );
            vec![case.ask(move |service| {
                service.delays = DelayCurve::constant(unit);
                service.output = Some(output.clone());
            })]
        },
    },
];

/// Records that the fault is gone.
fn clear(stage: &Stage<'_>) {
    mark(stage, CLEARED);
}

/// Records that something happens now.
fn mark(stage: &Stage<'_>, fact: &'static str) {
    let nanos = stage.sim().now().since_origin().as_nanos();
    stage.facts(|facts| {
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        facts.numbers.insert(fact, nanos);
    });
}

/// Makes two cases in which something that a start needs runs short for two starts: while the
/// service runs, which is how it mostly happens, and before its first start. If the subject can
/// stop, a stop shows that nothing is stuck afterwards.
fn short_for_a_while(profile: &Profile, lack: Lack) -> Vec<Case> {
    let unit = profile.unit();
    let runs = Case::new("while it runs", Script::new().stay(), move |stage| {
        Box::pin(async move {
            let shortage = Shortage::of(lack)?;
            let live = stage.begin().await?;
            let run = settled(stage).await?;
            mark(stage, SHORT);
            let short = shortage.begin();
            order_exit(&run, 1)?;
            if fails_twice(stage).await? {
                drop(short);
                clear(stage);
                recovered(stage, &live).await?;
            }
            Ok(())
        })
    });
    let begins = Case::new(
        "before its first start",
        Script::new().stay(),
        move |stage| {
            Box::pin(async move {
                let shortage = Shortage::of(lack)?;
                mark(stage, SHORT);
                let short = shortage.begin();
                let live = match stage.begin().await {
                    Ok(_) if !fails_twice(stage).await? => return Ok(()),
                    begun => {
                        drop(short);
                        clear(stage);
                        // If the subject has refused to begin, ask it again.
                        match begun {
                            Ok(live) => live,
                            Err(_) => stage.begin().await?,
                        }
                    }
                };
                recovered(stage, &live).await
            })
        },
    );
    [runs, begins]
        .map(|case| case.ask(move |service| service.delays = DelayCurve::constant(unit * 2)))
        .into()
}

/// Waits until two starts have failed. Returns false if one succeeds.
async fn fails_twice(stage: &Stage<'_>) -> Result<bool, TrialError> {
    let failed = |notice: &Notice| matches!(notice, Notice::StartFailed(_));
    let agent = stage.agent();
    tokio::select! {
        biased;
        heard = stage.heard(2, failed) => heard.map(|()| true),
        _ = agent.started() => Ok(false),
    }
}

/// Waits for the next run, and stops it if the subject can stop.
async fn recovered(stage: &Stage<'_>, live: &Live<'_>) -> Result<(), TrialError> {
    settled(stage).await?;
    if stage.profile().stopping.returns.is_some() {
        live.stop().await;
    }
    Ok(())
}

/// Makes a case of a program that cannot be executed for two starts. What `spoil` returns is held
/// until the right program is in place.
fn broken_for_a_while(
    label: &str,
    profile: &Profile,
    spoil: fn(&Folder) -> std::io::Result<Option<fs::File>>,
) -> Case {
    let unit = profile.unit();
    let folder = Rc::new(Folder::new());
    let program = folder.path("program");
    let asked = program.clone();
    let case = Case::new(label, Script::new().stay(), move |stage| {
        let (folder, program) = (Rc::clone(&folder), program.clone());
        Box::pin(async move {
            folder.made()?;
            let held = spoil(&folder).map_err(|error| TrialError::of("the program", &error))?;
            let _live = stage.begin().await?;
            let failed = |notice: &Notice| matches!(notice, Notice::StartFailed(_));
            stage.heard(2, failed).await?;
            // The right program replaces it in one step.
            let right = folder.path("right");
            symlink(stage.agent().program(), &right)
                .and_then(|()| fs::rename(&right, &program))
                .map_err(|error| TrialError::of("the program", &error))?;
            drop(held);
            clear(stage);
            stage.started().await?;
            Ok(())
        })
    });
    case.ask(move |service| {
        service.delays = DelayCurve::constant(unit * 2);
        service.program.clone_from(&asked);
    })
}
