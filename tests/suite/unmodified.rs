//! Ordinary tokio code, changed in nothing, in a sim: it comes to what it would come to in real time.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use supervise_harness::{ExitStatus, Script, Sim};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::child;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The agent behind a shell, as most runners start what they run; after it `tail`.
#[track_caller]
fn behind_a_shell(tail: &str) {
    let mut ended_at = None;
    let timeline = Sim::new().run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(secs(5)).exit(0));
        let words = std::iter::once(worker.program().into()).chain(worker.args());
        let words: Vec<String> = words
            .map(|word| format!("'{}'", word.into_string().unwrap()))
            .collect();
        let line = words.join(" ") + tail;
        let mut shell = Command::new("sh");
        let status = shell.arg("-c").arg(line).status().await.unwrap();
        assert!(status.success(), "{status}");
        ended_at = Some(sim.now().since_origin());
    });
    let code_0 = Some(ExitStatus::Exited { code: 0 });
    assert_eq!(timeline.exits("worker"), [code_0], "{timeline}");
    assert_eq!(ended_at, Some(secs(5)), "{timeline}");
}

#[test]
fn a_shell_that_runs_one_command_ends_with_it() {
    behind_a_shell("");
}

#[test]
fn a_shell_that_runs_another_command_after_it_ends_with_both() {
    behind_a_shell("; true");
}

#[test]
fn a_shell_pipeline_ends_with_its_first_command() {
    behind_a_shell(" | cat");
}

#[test]
fn a_shell_that_waits_for_its_background_ends_with_it() {
    behind_a_shell(" &\nwait");
}

/// The child is dropped, so killed, and the body ends at once.
#[test]
fn kill_on_drop_as_the_last_act_leaves_nothing() {
    for _ in 0..20 {
        Sim::new().run(async |sim| {
            let worker = sim.agent("worker", Script::new().stay());
            let mut command = Command::from(worker.command());
            let status = command.kill_on_drop(true).status();
            timeout(secs(5), status).await.unwrap_err();
        });
    }
}

#[test]
fn a_signal_to_the_own_process_arrives_when_it_was_sent() {
    for _ in 0..40 {
        Sim::new().run(async |sim| {
            let worker = sim.agent("worker", Script::new().ready().stay());
            let mut child = Command::from(worker.command()).spawn().unwrap();
            worker.started().await.became_ready().await;
            let mut reload = signal(SignalKind::user_defined1()).unwrap();
            tokio::spawn(async {
                sleep(secs(10)).await;
                kill(getpid(), Signal::SIGUSR1).unwrap();
            });
            tokio::select! {
                _ = reload.recv() => {}
                () = sleep(secs(3600)) => {}
            }
            assert_eq!(sim.now().since_origin(), secs(10));
            child.kill().await.unwrap();
        });
    }
}

/// Code that looks again and again makes progress: time goes on to an end that is known. With a
/// short watchdog, so that a fast machine shows it, too.
#[track_caller]
fn polls(tick: Duration, span: Duration) {
    let sim = Sim::builder().watchdog(secs(1)).build().unwrap();
    sim.run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(span).exit(0));
        let mut child = Command::from(worker.command()).spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            sleep(tick).await;
        }
        let late = sim.now().since_origin() - span;
        assert!(late <= tick, "seen {late:?} after its end");
    });
}

#[test]
fn a_look_each_100_ms_for_600_s_is_not_stuck() {
    polls(millis(100), secs(600));
}

#[test]
fn a_look_each_10_ms_for_60_s_is_not_stuck() {
    polls(millis(10), secs(60));
}

/// `std::process::Child::wait` on a thread of its own, what that does then, and a oneshot back.
#[track_caller]
fn waits_on_a_thread(then: impl Fn() + Clone + Send + 'static) {
    for _ in 0..20 {
        Sim::new().run(async |sim| {
            let worker = sim.agent("worker", Script::new().run_for(secs(60)).exit(0));
            let mut child = worker.command().spawn().unwrap();
            let (tell, told) = tokio::sync::oneshot::channel();
            let then = then.clone();
            std::thread::spawn(move || {
                let status = child.wait().unwrap();
                then();
                let _ = tell.send(status);
            });
            tokio::select! {
                status = told => assert!(status.unwrap().success()),
                () = sleep(secs(3600)) => {}
            }
            assert_eq!(sim.now().since_origin(), secs(60));
        });
    }
}

#[test]
fn a_wait_on_a_std_thread_is_told_at_the_end() {
    waits_on_a_thread(|| {});
}

#[test]
fn a_wait_on_a_std_thread_that_logs_first_is_told_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    waits_on_a_thread(move || std::fs::write(&log, "ended\n").unwrap());
}

/// The process's first thread takes the signals that are sent to the process, so that the sim looks at it, too.
#[test]
fn a_wait_on_a_std_thread_is_told_while_the_first_thread_works() {
    const PATH: &str = "unmodified::a_wait_on_a_std_thread_is_told_while_the_first_thread_works";
    child::run(PATH, || {
        let work = |time| {
            // real-time: a thread is at work for so long.
            let begun = Instant::now();
            while begun.elapsed() < time {
                std::hint::spin_loop();
            }
        };
        std::thread::scope(|scope| {
            let sims = scope.spawn(|| waits_on_a_thread(move || work(millis(5))));
            while !sims.is_finished() {
                work(millis(2));
                std::thread::yield_now();
            }
            sims.join().unwrap();
        });
    });
}

/// Whoever reads the failed test sees what had happened before.
#[test]
fn a_panic_in_the_body_prints_its_timeline() {
    const PATH: &str = "unmodified::a_panic_in_the_body_prints_its_timeline";
    if child::is_child(PATH) {
        Sim::new().run(async |sim| {
            let worker = sim.agent("worker", Script::new().run_for(secs(60)).exit(3));
            let mut command = Command::from(worker.command());
            for _ in 0..2 {
                command.status().await.unwrap();
                sleep(secs(1)).await;
            }
            let nothing = timeout(secs(5), std::future::pending::<()>()).await;
            nothing.unwrap();
        });
        return;
    }
    let output = child::command(PATH).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let text = text.into_owned();
    for line in [
        "timeline v2",
        "worker#1  start",
        "worker#2  exit     code=3",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}

/// The same through the value: the text of the failure.
#[test]
fn the_text_of_a_panicked_body_has_its_timeline() {
    let failure = Sim::new().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(secs(60)).exit(3));
        Command::from(worker.command()).status().await.unwrap();
        panic!("as asked");
    });
    let text = failure.unwrap_err().to_string();
    assert!(text.contains("worker#1  exit     code=3"), "{text}");
}
