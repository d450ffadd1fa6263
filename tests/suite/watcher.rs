//! The integration tests of `watcher`.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal as NixSignal, signal};
use nix::sys::wait::waitpid;
use supervise_harness::supervisor::{AgentHandle, SpawnError, WatchError};
use supervise_harness::{ExitStatus, Signal};
use tokio_util::sync::CancellationToken;

use super::child;
use super::spawner::tools::{open_count, pid_of, read_to_end, runtime, sh, sleeper, spawn};

/// Whoever reads the agent's socket reads its end.
fn hang_up(agent: &AgentHandle) {
    let socket = agent.socket().unwrap();
    socket.shutdown(std::net::Shutdown::Both).unwrap();
}

#[tokio::test]
async fn exit_3_is_reported_as_3_with_the_right_pid() {
    let agent = spawn(sh("exit 3"));
    let end = agent.watcher().wait().await.unwrap();
    assert_eq!(end.status, ExitStatus::Exited { code: 3 });
    assert_eq!(
        (end.pid, end.exit_code(), end.signal()),
        (agent.pid(), 3, None)
    );
}

#[tokio::test]
async fn every_exit_code_comes_through() {
    for code in [0, 1, 127, 128, 137, 255] {
        let agent = spawn(sh(&format!("exit {code}")));
        let end = agent.watcher().wait().await.unwrap();
        assert_eq!(end.status, ExitStatus::Exited { code });
    }
}

#[tokio::test]
async fn a_death_by_any_signal_is_reported_as_that_signal() {
    for name in [
        "HUP", "KILL", "SEGV", "TERM", "PIPE", "XFSZ", "RTMIN", "RTMIN+7", "64",
    ] {
        let signal: Signal = name.parse().unwrap();
        let agent = spawn(sleeper());
        agent.signal(signal).unwrap();
        let end = agent.watcher().wait().await.unwrap();
        assert_eq!((end.exit_code(), end.signal()), (-1, Some(signal)));
    }
}

#[test]
fn a_core_dump_is_reported_where_the_kernel_writes_one() {
    child::run(
        "watcher::a_core_dump_is_reported_where_the_kernel_writes_one",
        || {
            let dir = tempfile::tempdir().unwrap();
            std::env::set_current_dir(&dir).unwrap();
            let (_, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap();
            setrlimit(Resource::RLIMIT_CORE, hard, hard).unwrap();
            // Whether it does here, another child tells.
            let other = Command::new("/bin/sh")
                .args(["-c", "kill -SEGV $$"])
                .status()
                .unwrap();
            let agent = spawn(sh("kill -SEGV $$"));
            let end = runtime().block_on(agent.watcher().wait()).unwrap();
            assert_eq!(
                end.status,
                ExitStatus::Signaled {
                    signal: Signal::SEGV,
                    core_dumped: other.core_dumped(),
                }
            );
        },
    );
}

#[tokio::test]
async fn several_waits_get_the_same_before_and_after_the_end() {
    let agent = spawn(sh("read line <&3; exit 9"));
    let (one, two) = (agent.watcher(), agent.watcher());
    let clone = one.clone();
    let (token, other) = (CancellationToken::new(), CancellationToken::new());
    let end_it = async {
        hang_up(&agent);
    };
    let (a, b, c, d, ()) = tokio::join!(
        one.wait_unless(token.cancelled()),
        one.wait_unless(other.cancelled()),
        two.wait_unless(token.cancelled()),
        clone.wait_unless(token.cancelled()),
        end_it
    );
    let a = a.unwrap();
    assert_eq!(a.exit_code(), 9);
    assert_eq!([b.unwrap(), c.unwrap(), d.unwrap()], [a, a, a]);
    assert_eq!(one.wait_unless(token.cancelled()).await.unwrap(), a, "late");
    assert_eq!(
        agent
            .watcher()
            .wait_unless(token.cancelled())
            .await
            .unwrap(),
        a,
        "late and new"
    );
}

#[test]
fn waits_on_several_runtimes_get_the_same() {
    let agent = spawn(sh("read line <&3; exit 9"));
    let ends: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| runtime().block_on(agent.watcher().wait()).unwrap()))
            .collect();
        hang_up(&agent);
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(
        ends.iter()
            .all(|end| end.exit_code() == 9 && *end == ends[0])
    );
}

#[tokio::test]
async fn a_cancelled_wait_leaves_the_agent_alone() {
    let agent = spawn(sh("read line <&3; exit 9"));
    let watcher = agent.watcher();
    let token = CancellationToken::new();
    let (end, ()) = tokio::join!(watcher.wait_unless(token.cancelled()), async {
        token.cancel();
    });
    let error = end.unwrap_err();
    assert!(matches!(error, WatchError::Cancelled { pid } if pid == agent.pid()));
    assert!(matches!(
        watcher.wait_unless(token.cancelled()).await,
        Err(WatchError::Cancelled { .. })
    ));
    // It is there to end by itself.
    hang_up(&agent);
    assert_eq!(watcher.wait().await.unwrap().exit_code(), 9);
    // What is known is told, cancelled or not.
    assert_eq!(
        watcher
            .wait_unless(token.cancelled())
            .await
            .unwrap()
            .exit_code(),
        9
    );
}

#[test]
fn dropped_waits_lose_nothing_and_leave_nothing() {
    child::run(
        "watcher::dropped_waits_lose_nothing_and_leave_nothing",
        || {
            runtime().block_on(async {
                let agent = spawn(sh("read line <&3; exit 9"));
                let watcher = agent.watcher();
                let (before, token) = (open_count(), CancellationToken::new());
                for _ in 0..50 {
                    tokio::select! {
                        biased;
                        end = watcher.wait_unless(token.cancelled()) => panic!("{end:?}"),
                        () = tokio::task::yield_now() => {}
                    }
                }
                assert_eq!(open_count(), before);
                hang_up(&agent);
                assert_eq!(watcher.wait().await.unwrap().exit_code(), 9);
            });
        },
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_works_where_time_is_paused() {
    let agent = spawn(sh("read line <&3; exit 9"));
    let watcher = agent.watcher();
    let waiting = tokio::spawn(async move { watcher.wait().await });
    tokio::task::yield_now().await;
    hang_up(&agent);
    assert_eq!(waiting.await.unwrap().unwrap().exit_code(), 9);
}

#[tokio::test]
async fn a_wait_sees_the_end_that_a_close_makes() {
    let agent = spawn(sleeper());
    let watcher = agent.watcher();
    let token = CancellationToken::new();
    let (watched, closed) = tokio::join!(watcher.wait_unless(token.cancelled()), agent.close());
    assert_eq!(watched.unwrap(), closed.unwrap());
}

#[tokio::test]
async fn a_stolen_status_is_an_error_of_its_own_for_every_waiter() {
    let agent = spawn(sh("read line <&3; exit 9"));
    let watcher = agent.watcher();
    let token = CancellationToken::new();
    let steal = async {
        hang_up(&agent);
        waitpid(pid_of(&agent), None).unwrap();
    };
    let (a, b, ()) = tokio::join!(
        watcher.wait_unless(token.cancelled()),
        watcher.wait_unless(token.cancelled()),
        steal
    );
    for end in [a, b, watcher.wait_unless(token.cancelled()).await] {
        let error = end.unwrap_err();
        assert!(
            matches!(error, WatchError::StatusTaken { pid } if pid == agent.pid()),
            "{error:?}"
        );
        let text = error.to_string();
        assert!(text.contains("as `waitpid(-1)` does"), "{text}");
    }
}

#[test]
fn where_sigchld_is_ignored_the_status_is_taken() {
    child::run(
        "watcher::where_sigchld_is_ignored_the_status_is_taken",
        || {
            // SAFETY: ignoring a signal runs no code.
            unsafe { signal(NixSignal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
            let spawner = sh("exit 9").build().unwrap();
            match spawner.spawn("tested") {
                Ok(agent) => {
                    let end = runtime().block_on(agent.watcher().wait());
                    assert!(
                        matches!(end, Err(WatchError::StatusTaken { .. })),
                        "{end:?}"
                    );
                }
                // It was faster than the spawn.
                Err(error) => assert!(matches!(error, SpawnError::StatusTaken { .. }), "{error:?}"),
            }
        },
    );
}

#[tokio::test]
async fn the_statuses_of_other_children_stay_theirs() {
    let agent = spawn(sh("read line <&3; exit 9"));
    let watcher = agent.watcher();
    let waiting = tokio::spawn(async move { watcher.wait().await });
    tokio::task::yield_now().await;
    let mut other = Command::new("/bin/sh")
        .args(["-c", "echo done; exit 6"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It has ended or is about to; the runtime runs with it as a zombie in between.
    assert_eq!(read_to_end(other.stdout.take().unwrap()), "done\n");
    hang_up(&agent);
    assert_eq!(waiting.await.unwrap().unwrap().exit_code(), 9);
    assert_eq!(other.wait().unwrap().code(), Some(6));
}

#[test]
fn no_handler_of_sigchld_is_installed() {
    child::run("watcher::no_handler_of_sigchld_is_installed", || {
        let disposition = || {
            // SAFETY: a null new action only reads; `old` is valid for writes.
            unsafe {
                let mut old: libc::sigaction = std::mem::zeroed();
                assert_eq!(
                    libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut old),
                    0
                );
                old.sa_sigaction
            }
        };
        let before = disposition();
        runtime().block_on(async {
            let agent = spawn(sleeper());
            let token = CancellationToken::new();
            let watcher = agent.watcher();
            let (watched, closed) =
                tokio::join!(watcher.wait_unless(token.cancelled()), agent.close());
            assert_eq!(watched.unwrap(), closed.unwrap());
        });
        assert_eq!(disposition(), before);
        assert_eq!(before, libc::SIG_DFL);
    });
}
