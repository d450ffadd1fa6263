//! The supervisor where a start lacks something: real limits, of a process of its own.

use std::time::Duration;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use supervise_harness::Signal;
use supervise_harness::backoff::ConstantBackoff;
use supervise_harness::supervisor::{
    RestartPolicy, RestartTracker, SpawnError, Supervisor, SupervisorEvent, SupervisorEvents,
};

use super::child;
use super::spawner::tools::{has_child, open_count, runtime, sleeper};

/// The next event of which something can be taken.
async fn next<T>(events: &mut SupervisorEvents, take: impl Fn(&SupervisorEvent) -> Option<T>) -> T {
    loop {
        let (_, event) = events.next().await.expect("an event before the end");
        if let Some(taken) = take(&event) {
            return taken;
        }
    }
}

fn up(event: &SupervisorEvent) -> Option<()> {
    matches!(event, SupervisorEvent::Ready { .. }).then_some(())
}

/// Has a supervisor outlast three starts under a limit of none, and says how often the cause was the one
/// that is meant.
fn outlasts(resource: Resource, is_meant: fn(&SpawnError) -> bool) {
    runtime().block_on(async {
        let (_, hard) = getrlimit(resource).unwrap();
        let tracker = RestartTracker::builder()
            .policy(RestartPolicy::Always)
            .build()
            .unwrap();
        let (supervisor, mut events) = Supervisor::builder(sleeper().build().unwrap(), "worker")
            .tracker(tracker)
            .backoff(ConstantBackoff::new(Duration::from_millis(1)))
            .start()
            .unwrap();
        let started = |event: &SupervisorEvent| match event {
            SupervisorEvent::Started { pid, .. } => Some(*pid),
            _ => None,
        };
        let pid = next(&mut events, started).await;
        next(&mut events, up).await;
        let before = open_count();

        setrlimit(resource, 0, hard).unwrap();
        let pid = nix::unistd::Pid::from_raw(pid.try_into().unwrap());
        nix::sys::signal::kill(pid, Some(Signal::KILL.number().try_into().unwrap())).unwrap();
        for _ in 0..3 {
            let failed = |event: &SupervisorEvent| match event {
                SupervisorEvent::StartFailed { error, .. } => Some(std::sync::Arc::clone(error)),
                SupervisorEvent::Resting(outcome) => panic!("it rests: {outcome:?}"),
                _ => None,
            };
            let error = next(&mut events, failed).await;
            assert!(is_meant(&error), "{error:?}");
        }
        setrlimit(resource, hard, hard).unwrap();

        next(&mut events, up).await;
        assert_eq!(open_count(), before, "descriptors after the failed starts");
        supervisor.stop().await.unwrap();
        assert!(!has_child());
    });
}

#[test]
fn starts_without_a_free_descriptor_are_tried_again_and_leave_nothing_behind() {
    child::run(
        "shortage::starts_without_a_free_descriptor_are_tried_again_and_leave_nothing_behind",
        || {
            outlasts(Resource::RLIMIT_NOFILE, |error| {
                matches!(error, SpawnError::Descriptors { limit: Some(0), .. })
            });
        },
    );
}

#[test]
fn starts_without_a_free_process_are_tried_again_and_leave_nothing_behind() {
    child::run(
        "shortage::starts_without_a_free_process_are_tried_again_and_leave_nothing_behind",
        || {
            // SAFETY: none of these touches memory of ours. Root has no limit, another user does.
            unsafe {
                if libc::geteuid() == 0 {
                    assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
                    assert_eq!(libc::setresgid(65_534, 65_534, 65_534), 0);
                    assert_eq!(libc::setresuid(65_534, 65_534, 65_534), 0);
                }
            }
            outlasts(Resource::RLIMIT_NPROC, |error| {
                matches!(error, SpawnError::ProcessLimit { limit: Some(0), .. })
            });
        },
    );
}
