//! Closing an agent: stop signal, grace, SIGKILL, the group, the reaping.

use std::future::ready;
use std::io::{BufRead, BufReader, pipe};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::wait::waitpid;
use supervise_harness::supervisor::{AgentHandle, CloseError};
use supervise_harness::{ExitStatus, Signal};

use super::super::child;
use super::tools::{WATCHDOG, line, pid_of, read_to_end, refuse, runtime, sh, sleeper, spawn};

/// Ignores SIGTERM, and so do its children.
const STUBBORN: &str = "trap '' TERM; echo ready >&3; sleep 60";

/// Polls a close once, so that the stop signal is out, and drops it.
async fn begin_and_cancel(agent: &AgentHandle) {
    tokio::select! {
        biased;
        end = agent.close() => panic!("ended at once: {end:?}"),
        () = ready(()) => {}
    }
}

#[tokio::test]
async fn an_agent_that_heeds_the_stop_signal_exits_by_itself() {
    let agent =
        spawn(sh("trap 'exit 7' TERM; sleep 60 & echo ready >&3; wait; exit 1").grace(WATCHDOG));
    assert_eq!(line(&agent), "ready");
    let end = agent.close().await.unwrap();
    assert_eq!(end.status, ExitStatus::Exited { code: 7 });
    assert_eq!(end.pid, agent.pid());
}

#[tokio::test]
async fn the_stop_signal_can_be_chosen() {
    let agent = spawn(
        sh("trap 'exit 1' TERM; trap 'exit 9' USR1; sleep 60 & echo ready >&3; wait; exit 2")
            .stop_signal(Signal::USR1)
            .grace(WATCHDOG),
    );
    assert_eq!(line(&agent), "ready");
    assert_eq!(agent.close().await.unwrap().exit_code(), 9);
}

#[tokio::test]
async fn an_agent_that_ignores_the_stop_signal_is_killed_at_the_grace() {
    // real-time: the grace is what is tested; only its lower end is.
    let grace = Duration::from_millis(100);
    let agent = spawn(sh(STUBBORN).grace(grace));
    assert_eq!(line(&agent), "ready");
    let begun = Instant::now();
    let end = agent.close().await.unwrap();
    assert_eq!(end.signal(), Some(Signal::KILL));
    assert!(begun.elapsed() >= grace);
}

#[tokio::test(start_paused = true)]
async fn the_grace_is_virtual_where_time_is() {
    let grace = Duration::from_secs(3600);
    let agent = spawn(sh(STUBBORN).grace(grace));
    assert_eq!(line(&agent), "ready");
    let begun = tokio::time::Instant::now();
    let end = agent.close().await.unwrap();
    assert_eq!(end.signal(), Some(Signal::KILL));
    assert!(begun.elapsed() >= grace);
}

#[tokio::test]
async fn no_grace_and_an_endless_one_are_valid() {
    let agent = spawn(sh(STUBBORN).grace(Duration::ZERO));
    assert_eq!(line(&agent), "ready");
    let end = agent.close().await.unwrap();
    assert_eq!(end.signal(), Some(Signal::KILL));

    let agent = spawn(sleeper().grace(Duration::MAX));
    assert_eq!(agent.close().await.unwrap().signal(), Some(Signal::TERM));
}

#[tokio::test]
async fn the_host_half_is_shut_first() {
    let agent = spawn(sh("trap '' TERM; echo ready >&3; read line <&3; exit 5").grace(WATCHDOG));
    assert_eq!(line(&agent), "ready");
    assert_eq!(agent.close().await.unwrap().exit_code(), 5);
}

#[tokio::test]
async fn the_stop_signal_goes_to_the_whole_group() {
    let (reader, writer) = pipe().unwrap();
    // Trapped, not ignored: a shell cannot trap what it inherits ignored. The trap ends one wait.
    let agent = spawn(
        sh("trap : TERM; sh -c 'trap \"echo stopped; exit\" TERM; sleep 60 & echo ready >&3; wait' & wait; wait; exit 6")
            .stdout(writer)
            .grace(WATCHDOG),
    );
    assert_eq!(line(&agent), "ready");
    assert_eq!(agent.close().await.unwrap().exit_code(), 6);
    assert_eq!(read_to_end(reader), "stopped\n");
}

#[tokio::test]
async fn members_of_the_group_that_outlive_the_agent_are_killed() {
    let (reader, writer) = pipe().unwrap();
    let agent =
        spawn(sh("trap '' TERM; sleep 60 & trap - TERM; echo ready >&3; wait").stdout(writer));
    assert_eq!(line(&agent), "ready");
    assert_eq!(agent.close().await.unwrap().signal(), Some(Signal::TERM));
    assert_eq!(read_to_end(reader), "");
}

#[tokio::test]
async fn an_agent_that_has_ended_gives_its_status_and_its_group_is_killed() {
    for watched in [false, true] {
        let (reader, writer) = pipe().unwrap();
        let agent = spawn(sh("sleep 60 3>&- & exit 4").stdout(writer));
        // The agent is the last holder of the other half.
        assert_eq!(line(&agent), "");
        if watched {
            let end = agent.watcher().wait().await;
            assert_eq!(end.unwrap().exit_code(), 4);
        }
        assert_eq!(agent.close().await.unwrap().exit_code(), 4);
        assert_eq!(read_to_end(reader), "");
    }
}

#[test]
fn before_linux_6_9_the_group_is_killed_while_the_zombie_keeps_its_number() {
    child::run(
        "spawner::close::before_linux_6_9_the_group_is_killed_while_the_zombie_keeps_its_number",
        || {
            refuse(libc::SYS_pidfd_send_signal, true, libc::EINVAL);
            runtime().block_on(async {
                let (reader, writer) = pipe().unwrap();
                let agent = spawn(
                    sh("trap '' TERM; sleep 60 & trap - TERM; echo ready >&3; wait").stdout(writer),
                );
                assert_eq!(line(&agent), "ready");
                // A watcher must not reap before the group is killed either.
                let watcher = agent.watcher();
                let (watched, closed) = tokio::join!(watcher.wait(), agent.close());
                assert_eq!(closed.unwrap().signal(), Some(Signal::TERM));
                assert_eq!(watched.unwrap().signal(), Some(Signal::TERM));
                assert_eq!(read_to_end(reader), "");

                let agent = spawn(sh(STUBBORN).grace(Duration::ZERO));
                assert_eq!(line(&agent), "ready");
                assert_eq!(agent.close().await.unwrap().signal(), Some(Signal::KILL));
            });
        },
    );
}

#[tokio::test]
async fn closing_again_gives_the_same() {
    let agent = spawn(sleeper());
    let first = agent.close().await.unwrap();
    assert_eq!(agent.close().await.unwrap(), first);
    assert_eq!(agent.watcher().wait().await.unwrap(), first);
}

/// Says `term` for each SIGTERM and `mark` for each SIGURG, and ends only by SIGKILL.
const COUNTER: &str = "trap 'echo term' TERM; trap 'echo mark' URG; echo ready >&3; for i in 1 2 3 4 5 6; do wait; sleep 60 & done; wait";

#[tokio::test]
async fn closes_at_once_are_one_close() {
    let (reader, writer) = pipe().unwrap();
    // real-time: long enough for the agent's trap to run under load, which the count needs.
    let agent = spawn(sh(COUNTER).stdout(writer).grace(Duration::from_millis(500)));
    assert_eq!(line(&agent), "ready");
    let (a, b, c) = tokio::join!(agent.close(), agent.close(), agent.close());
    let a = a.unwrap();
    assert_eq!((a, a), (b.unwrap(), c.unwrap()));
    assert_eq!(a.signal(), Some(Signal::KILL));
    assert_eq!(read_to_end(reader), "term\n");
}

#[tokio::test(start_paused = true)]
async fn the_next_close_carries_on_where_a_cancelled_one_was() {
    let (reader, writer) = pipe().unwrap();
    let mut reader = BufReader::new(reader);
    let mut said = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line
    };
    let agent = spawn(sh(COUNTER).stdout(writer).grace(WATCHDOG));
    assert_eq!(line(&agent), "ready");
    begin_and_cancel(&agent).await;
    assert_eq!(said(), "term\n");
    begin_and_cancel(&agent).await;
    // The shell runs its traps in the order of the numbers: a second SIGTERM would be heard first.
    agent.signal(Signal::URG).unwrap();
    assert_eq!(said(), "mark\n");
    let end = agent.close().await.unwrap();
    assert_eq!(end.signal(), Some(Signal::KILL));
}

#[tokio::test]
async fn a_cancelled_close_does_not_take_the_others_along() {
    let agent = spawn(sh(STUBBORN).grace(Duration::ZERO));
    assert_eq!(line(&agent), "ready");
    let end = tokio::select! {
        biased;
        end = async {
            tokio::select! {
                biased;
                end = agent.close() => end,
                () = tokio::task::yield_now() => agent.close().await,
            }
        } => end,
        end = agent.close() => end,
    };
    assert_eq!(end.unwrap().signal(), Some(Signal::KILL));
}

#[test]
fn dropping_the_handle_ends_what_a_cancelled_close_began() {
    let agent = spawn(sh(STUBBORN).grace(WATCHDOG));
    assert_eq!(line(&agent), "ready");
    runtime().block_on(begin_and_cancel(&agent));
    let (pid, watcher) = (pid_of(&agent), agent.watcher());
    drop(agent);
    assert_eq!(waitpid(pid, None), Err(nix::Error::ECHILD));
    let end = runtime().block_on(watcher.wait());
    assert_eq!(end.unwrap().signal(), Some(Signal::KILL));
}

#[test]
fn a_close_may_run_on_another_runtime_than_the_one_before() {
    let agent = spawn(sh(STUBBORN).grace(Duration::from_millis(1)));
    assert_eq!(line(&agent), "ready");
    runtime().block_on(begin_and_cancel(&agent));
    let end = std::thread::scope(|scope| {
        scope
            .spawn(|| runtime().block_on(agent.close()))
            .join()
            .unwrap()
    });
    assert_eq!(end.unwrap().signal(), Some(Signal::KILL));
}

#[tokio::test]
async fn a_stolen_status_is_an_error_of_its_own() {
    let agent = spawn(sh("exit 0"));
    waitpid(pid_of(&agent), None).unwrap();
    for _ in 0..2 {
        let error = agent.close().await.unwrap_err();
        assert!(
            matches!(error, CloseError::StatusTaken { pid } if pid == agent.pid()),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn signals_to_an_agent_that_has_ended_go_nowhere() {
    let agent = spawn(sh("exit 0"));
    agent.close().await.unwrap();
    agent.signal(Signal::KILL).unwrap();
}
