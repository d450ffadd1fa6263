//! The checks of after which ends there is a restart.

use std::fmt::Display;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};

use crate::rules::{Rule, Verdict, registered};
use crate::status::ExitStatus;
use crate::supervisor::{Decision, EndCause, RestartPolicy, RunEnd};
use crate::timestamp::Timestamp;
use agent_stub::Signal;

use super::declared_rules::{Decider, LimitRule, RestartParams, RestartRules};
use super::generated::{at, broken, cases, crash, made, restarted};
use super::strategies::{policies, run_ends, signals};

pub(super) const MATRIX: &Rule = registered("policy-matrix");
pub(super) const CLEAN: &Rule = registered("clean-set");
pub(super) const OVERRIDES: &Rule = registered("status-overrides");
pub(super) const REQUESTED: &Rule = registered("requested-death-not-failure");
pub(super) const STOPPED: &Rule = registered("no-start-after-stop");
pub(super) const ONE_START: &Rule = registered("one-start-per-exit");

fn killed(signal: Signal, core_dumped: bool) -> RunEnd {
    RunEnd::new(EndCause::Exited(ExitStatus::Signaled {
        signal,
        core_dumped,
    }))
}

fn first(decider: &mut impl Decider, end: &RunEnd) -> Decision {
    decider.decide(end, Timestamp::ORIGIN)
}

/// Rule `policy-matrix`: for each policy and each cause of end, checks whether there is a restart
/// after the first end:
/// - `Never`: after no end;
/// - `OnFailure`: after every end except exit code 0;
/// - `Always`: after every end.
///
/// Source: the policies of the Go package `supervise`; the `Restart=` table of systemd.service(5).
pub fn policy_matrix<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    cases(
        params,
        MATRIX,
        &(1..=255_i32, signals()),
        |(code, signal)| {
            let ends = [
                RunEnd::exited(0),
                RunEnd::exited(*code),
                killed(*signal, false),
                killed(*signal, true),
                RunEnd::new(EndCause::StartFailed),
                RunEnd::new(EndCause::StartTimeout),
                RunEnd::new(EndCause::WatchdogTimeout),
                RunEnd::new(EndCause::Unhealthy),
            ];
            for policy in [
                RestartPolicy::Never,
                RestartPolicy::OnFailure,
                RestartPolicy::Always,
            ] {
                for end in &ends {
                    let expected = match policy {
                        RestartPolicy::Never => false,
                        RestartPolicy::OnFailure => *end != RunEnd::exited(0),
                        RestartPolicy::Always => true,
                    };
                    let decision = first(&mut made(&factory, &RestartRules::of(policy))?, end);
                    if restarted(&decision) != expected {
                        return Err(broken(
                            format!("policy {policy:?}, {}", end.cause),
                            if expected { "a restart" } else { "no restart" },
                            format!("{decision:?}"),
                        ));
                    }
                }
            }
            Ok(())
        },
    )
}

/// Rule `clean-set`: checks which ends count as a success, with configured success codes and
/// signals.
/// - With the policy `OnFailure`, an end in the success set finishes with success. After any other
///   end there is a restart.
/// - With the policy `Never`, every end finishes, and the decision says whether it was a success.
///
/// Source: `SuccessExitStatus=` of systemd.service(5); `exitcodes` of supervisord.
pub fn clean_set<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    let strategy = (
        vec(0..=255_i32, 1..4),
        vec(signals(), 1..4),
        0..=255_i32,
        signals(),
    );
    cases(
        params,
        CLEAN,
        &strategy,
        |(codes, signals, code, signal)| {
            let members = codes.iter().map(|code| RunEnd::exited(*code));
            let members = members.chain(signals.iter().map(|signal| killed(*signal, false)));
            for end in members.chain([RunEnd::exited(*code), killed(*signal, false)]) {
                let clean = match end.cause {
                    EndCause::Exited(ExitStatus::Exited { code }) => codes.contains(&code),
                    EndCause::Exited(ExitStatus::Signaled { signal, .. }) => {
                        signals.contains(&signal)
                    }
                    _ => false,
                };
                for policy in [RestartPolicy::OnFailure, RestartPolicy::Never] {
                    let rules = RestartRules {
                        success_codes: codes.clone(),
                        success_signals: signals.clone(),
                        ..RestartRules::of(policy)
                    };
                    let decision = first(&mut made(&factory, &rules)?, &end);
                    let right = match decision {
                        Decision::Finished { success } => {
                            success == clean && (clean || policy == RestartPolicy::Never)
                        }
                        Decision::Restart { .. } => !clean && policy == RestartPolicy::OnFailure,
                        // No limit was set.
                        Decision::GiveUp(_) => false,
                    };
                    if !right {
                        return Err(broken(
                            format!("policy {policy:?}, {}", end.cause),
                            if clean { "success" } else { "a failure" },
                            format!("{decision:?}"),
                        ));
                    }
                }
            }
            Ok(())
        },
    )
}

/// Rule `status-overrides`: there is no restart after codes and signals in the prevent list. There
/// is a restart after those that are only in the force list. Both hold for every policy.
///
/// Source: `RestartPreventExitStatus=` and `RestartForceExitStatus=` of systemd.service(5).
pub fn status_overrides<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    let lists = || (vec(0..=255_i32, 0..4), vec(signals(), 0..4));
    let both = (1..=255_i32, signals());
    let strategy = (policies(), lists(), lists(), both);
    cases(
        params,
        OVERRIDES,
        &strategy,
        |(policy, prevent, force, (code, signal))| {
            let mut rules = RestartRules {
                prevent_codes: prevent.0.clone(),
                prevent_signals: prevent.1.clone(),
                force_codes: force.0.clone(),
                force_signals: force.1.clone(),
                ..RestartRules::of(*policy)
            };
            // One code and one signal are in both lists.
            rules.prevent_codes.push(*code);
            rules.force_codes.push(*code);
            rules.prevent_signals.push(*signal);
            rules.force_signals.push(*signal);
            let codes = rules.prevent_codes.iter().chain(&rules.force_codes);
            let signals = rules.prevent_signals.iter().chain(&rules.force_signals);
            let ends =
                codes.map(|code| (RunEnd::exited(*code), !rules.prevent_codes.contains(code)));
            let ends = ends.chain(signals.map(|signal| {
                (
                    killed(*signal, false),
                    !rules.prevent_signals.contains(signal),
                )
            }));
            for (end, expected) in ends {
                let decision = first(&mut made(&factory, &rules)?, &end);
                if restarted(&decision) != expected {
                    return Err(broken(
                        format!("policy {policy:?}, {}", end.cause),
                        if expected {
                            "a restart, which is forced"
                        } else {
                            "no restart: it is prevented"
                        },
                        format!("{decision:?}"),
                    ));
                }
            }
            Ok(())
        },
    )
}

/// Rule `requested-death-not-failure`: if a stop was requested and then a signal kills the run, the
/// run finishes with success.
///
/// Source: every supervisor that reported its own SIGTERM as a crash.
pub fn requested_death_not_failure<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    cases(
        params,
        REQUESTED,
        &(policies(), signals()),
        |(policy, signal)| {
            let mut decider = made(&factory, &RestartRules::of(*policy))?;
            decider.stop();
            let end = killed(*signal, false).on_request();
            let decision = first(&mut decider, &end);
            if decision == (Decision::Finished { success: true }) {
                return Ok(());
            }
            let place = format!("policy {policy:?}, {} on request", end.cause);
            Err(broken(
                place,
                "Finished { success: true }",
                format!("{decision:?}"),
            ))
        },
    )
}

/// Rule `no-start-after-stop`: after up to three crashes and then a stop, there is no restart after
/// any end. It checks one to five ends after the stop, both requested and not requested.
///
/// Source: Unitech/pm2#1966, where a stop during a delayed restart relaunches the process.
pub fn no_start_after_stop<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    let hour = std::time::Duration::from_secs(3_600);
    let strategy = (0..4_u32, vec(run_ends(hour), 1..6));
    cases(params, STOPPED, &strategy, |(before, after)| {
        let mut decider = made(&factory, &RestartRules::of(RestartPolicy::Always))?;
        for _ in 0..*before {
            let _ = first(&mut decider, &crash());
        }
        decider.stop();
        for (n, end) in (1_u32..).zip(after) {
            let decision = decider.decide(end, at(n * hour));
            if restarted(&decision) {
                let place = format!("end {n} after the stop: {}", end.cause);
                return Err(broken(place, "no restart", format!("{decision:?}")));
            }
        }
        Ok(())
    })
}

/// Rule `one-start-per-exit`, as far as it can be checked without processes: each end counts as at
/// most one restart. From one restart to the next, the attempt therefore grows by at most 1.
///
/// Source: a supervisor that sees an exit twice, in a signal handler and in a wait, and restarts
/// twice.
pub fn one_start_per_exit<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    let strategy = vec((any::<bool>(), 1..=255_i32), 2..32);
    cases(
        params,
        ONE_START,
        &strategy.prop_map(|ends| {
            let end = |(clean, code)| if clean { 0 } else { code };
            ends.into_iter().map(end).collect::<Vec<i32>>()
        }),
        |codes| {
            let rules = RestartRules::of(RestartPolicy::Always).limit(LimitRule::Unlimited);
            let mut decider = made(&factory, &rules)?;
            let mut before = None;
            for (n, code) in (1_u32..).zip(codes) {
                let decision = first(&mut decider, &RunEnd::exited(*code));
                let Decision::Restart { attempt } = decision else {
                    continue;
                };
                if before.is_some_and(|before: u32| attempt > before + 1) {
                    let expected = "the attempt after the one before";
                    return Err(broken(
                        format!("end {n}"),
                        expected,
                        format!("attempt {attempt}"),
                    ));
                }
                before = Some(attempt);
            }
            Ok(())
        },
    )
}
