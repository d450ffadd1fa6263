//! Tests that are started where SIGCHLD is ignored or blocked: both survive an exec.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use supervise_harness::stub::Hygiene;
use supervise_harness::supervisor::Orphans;
use supervise_harness::{Script, Sim};
use tokio::process::Command;

use crate::child;

/// real-time: what takes longer than this never happens.
const BOUND: Duration = Duration::from_secs(20);

/// What whoever starts the tests does to SIGCHLD.
#[derive(Clone, Copy)]
enum Launcher {
    Ignores,
    Blocks,
}

/// Runs the body in a process that is started so.
#[track_caller]
fn started_by(launcher: Launcher, name: &str, body: impl FnOnce()) {
    let path = format!("surroundings::{name}");
    if child::is_child(&path) {
        return body();
    }
    let mut command = child::command(&path);
    // SAFETY: sigaction and pthread_sigmask may be called there.
    unsafe {
        command.pre_exec(move || {
            match launcher {
                Launcher::Ignores => drop(signal(Signal::SIGCHLD, SigHandler::SigIgn)?),
                Launcher::Blocks => SigSet::from(Signal::SIGCHLD).thread_block()?,
            }
            Ok(())
        });
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
    let says = text.matches("SIGCHLD was ignored").count();
    let should = usize::from(matches!(launcher, Launcher::Ignores));
    assert_eq!(says, should, "{text}");
}

fn blocks_sigchld() -> bool {
    SigSet::thread_get_mask().unwrap().contains(Signal::SIGCHLD)
}

/// Two starts, and what the second run inherits.
fn restarts() -> Hygiene {
    let mut inherited = None;
    let timeline = Sim::new().run(async |sim| {
        let script = Script::runs(1, Script::new().run_for(Duration::from_secs(60)).exit(3));
        let worker = sim.agent("worker", script.then(Script::new().stay()));
        let status = Command::from(worker.command()).status().await.unwrap();
        assert_eq!(status.code(), Some(3));
        worker.started().await;
        let mut second = Command::from(worker.command()).spawn().unwrap();
        inherited = worker.started().await.hygiene().await;
        second.kill().await.unwrap();
    });
    assert_eq!(timeline.starts("worker"), 2, "{timeline}");
    inherited.unwrap()
}

#[test]
fn a_sim_passes_where_sigchld_is_ignored() {
    let name = "a_sim_passes_where_sigchld_is_ignored";
    started_by(Launcher::Ignores, name, || {
        for _ in 0..2 {
            assert!(
                !restarts()
                    .ignored
                    .contains(&supervise_harness::Signal::CHLD)
            );
        }
    });
}

#[test]
fn a_sim_passes_where_sigchld_is_blocked_and_leaves_it_so() {
    let name = "a_sim_passes_where_sigchld_is_blocked_and_leaves_it_so";
    started_by(Launcher::Blocks, name, || {
        assert!(blocks_sigchld());
        assert!(
            !restarts()
                .blocked
                .contains(&supervise_harness::Signal::CHLD)
        );
        assert!(blocks_sigchld());
    });
}

/// Tokio reaps what was dropped when SIGCHLD says that a child has ended.
#[test]
fn a_dropped_child_is_reaped_where_sigchld_is_blocked() {
    let name = "a_dropped_child_is_reaped_where_sigchld_is_blocked";
    started_by(Launcher::Blocks, name, || {
        let timeline = Sim::new().run(async |sim| {
            let script = Script::new().run_for(Duration::from_secs(5)).exit(0);
            let worker = sim.agent("worker", script);
            drop(Command::from(worker.command()).spawn().unwrap());
            worker.started().await.ended().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        });
        let reaped = timeline.to_string().contains("reap");
        assert!(reaped, "{timeline}");
    });
}

#[test]
fn orphans_are_reaped_where_sigchld_is_blocked() {
    let name = "orphans_are_reaped_where_sigchld_is_blocked";
    started_by(Launcher::Blocks, name, || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(async {
            let orphans = Orphans::adopt().unwrap();
            let pid = crate::orphans::orphan(crate::orphans::DAEMON);
            // real-time: else it would be waited for for ever.
            let reaped = tokio::time::timeout(BOUND, crate::orphans::reaped(pid));
            reaped.await.expect("the orphan is reaped");
            assert!(blocks_sigchld(), "the thread is its owner's");
            drop(orphans);
        });
        let threads = std::fs::read_dir("/proc/self/task").unwrap();
        let names = threads.map(|thread| {
            let path = thread.unwrap().path().join("comm");
            std::fs::read_to_string(path).unwrap_or_default()
        });
        let left: Vec<String> = names.filter(|name| name.trim() == "orphans").collect();
        assert_eq!(left, [""; 0]);
    });
}
