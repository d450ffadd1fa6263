//! Sims of one process beside each other: a signal that is one's may be taken by another's runtime, and all reap for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use supervise_harness::{Script, Sim, SimHandle};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use super::{Busy, Log, assert_same};

/// Plays it in sims that are beside each other, and beside busy cores.
fn assert_same_beside(runs: usize, body: impl AsyncFn(SimHandle, Log) + Copy + Send + 'static) {
    let _busy = Busy::new();
    let plays = [(); 8].map(|()| std::thread::spawn(move || assert_same(runs, body)));
    for plays in plays {
        plays.join().unwrap();
    }
}

/// It had no time to say hello, and tokio's drop left it to the next SIGCHLD.
#[test]
fn what_was_started_and_dropped_in_the_last_turn_is_reaped_before_the_end() {
    assert_same_beside(10, async |sim: SimHandle, _| {
        let agent = sim.agent("a", Script::new().stay());
        let mut command = Command::from(agent.command());
        drop(command.kill_on_drop(true).spawn().unwrap());
    });
}

/// Tokio's drop left it alive, before it had said hello.
#[test]
fn what_was_dropped_alive_is_reaped_when_it_ends() {
    assert_same_beside(6, async |sim: SimHandle, _| {
        let agent = sim.agent("a", Script::new().run_for(Duration::from_secs(1)).exit(0));
        drop(Command::from(agent.command()).spawn().unwrap());
        sleep(Duration::from_secs(2)).await;
    });
}

/// The same beside a runtime that is no sim's, as that of a `#[tokio::test]`: it reaps for all, too.
#[test]
fn what_was_dropped_is_reaped_beside_a_runtime_of_another_kind() {
    let (end, mut is_over) = tokio::sync::oneshot::channel::<()>();
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            while is_over.try_recv().is_err() {
                let starts = [(); 4].map(|()| tokio::spawn(Command::new("true").status()));
                for start in starts {
                    assert!(start.await.unwrap().unwrap().success());
                }
            }
        });
    });
    assert_same_beside(6, async |sim: SimHandle, _| {
        let agent = sim.agent("a", Script::new().run_for(Duration::from_secs(1)).exit(0));
        drop(Command::from(agent.command()).spawn().unwrap());
        let mut command = Command::from(agent.command());
        drop(command.kill_on_drop(true).spawn().unwrap());
        sleep(Duration::from_secs(2)).await;
        drop(command.spawn().unwrap());
    });
    end.send(()).unwrap();
    other.join().unwrap();
}

/// Another sim's runtime may find the signal, and lose its processor before it tells of it.
#[test]
fn a_signal_to_the_own_process_arrives_when_it_was_sent() {
    let _busy = Busy::new();
    let end = Arc::new(AtomicBool::new(false));
    let others = [(); 6].map(|()| {
        let end = Arc::clone(&end);
        std::thread::spawn(move || {
            let looks = async |_: SimHandle| {
                while !end.load(Ordering::Relaxed) {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            Sim::new().run(looks);
        })
    });
    assert_same(30, async |_, log| {
        let mut reload = signal(SignalKind::user_defined1()).unwrap();
        tokio::spawn(async {
            sleep(Duration::from_secs(10)).await;
            kill(Pid::this(), Signal::SIGUSR1).unwrap();
        });
        let begun = Instant::now();
        let _ = timeout(Duration::from_secs(3600), reload.recv()).await;
        log.say(format!("{:?}", begun.elapsed()));
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
    });
    end.store(true, Ordering::Relaxed);
    for other in others {
        other.join().unwrap();
    }
}

/// The shell reaps and ends, and then the body does, while other sims hold all up: their children are not through their
/// exec.
#[test]
fn what_a_shell_reaps_last_is_seen_at_the_end_while_others_start_processes() {
    let end = Arc::new(AtomicBool::new(false));
    let others = [(); 3].map(|()| {
        let end = Arc::clone(&end);
        std::thread::spawn(move || {
            let starts = async |_: SimHandle| {
                while !end.load(Ordering::Relaxed) {
                    let starts = [(); 3].map(|()| Command::new("true").spawn().unwrap());
                    for mut start in starts {
                        start.wait().await.unwrap();
                    }
                }
            };
            Sim::new().run(starts);
        })
    });
    assert_same(12, async |sim: SimHandle, _| {
        let agents = [("a", 3), ("b", 5)].map(|(name, secs)| {
            let script = Script::new().run_for(Duration::from_secs(secs)).exit(1);
            super::shells::words(&sim.agent(name, script))
        });
        let text = format!("{} & {}; wait", agents[0], agents[1]);
        Command::new("sh")
            .args(["-c", &text])
            .status()
            .await
            .unwrap();
    });
    end.store(true, Ordering::Relaxed);
    for other in others {
        other.join().unwrap();
    }
}

/// A fork of another sim copies every descriptor before its child is there to be seen, and holds the copies until its exec.
#[test]
fn what_is_closed_while_others_start_processes_ends_at_once() {
    assert_same_beside(2, async |sim: SimHandle, log| {
        for _ in 0..10 {
            let agent = sim.agent("a", Script::new().run_for(Duration::from_secs(1)).exit(1));
            Command::from(agent.command()).status().await.unwrap();
            let (one, mut other) = UnixStream::pair().unwrap();
            sleep(Duration::from_millis(1)).await;
            let begun = Instant::now();
            drop(one);
            let read = timeout(Duration::from_secs(10), other.read_to_end(&mut Vec::new())).await;
            log.say(format!("{read:?} after {:?}", begun.elapsed()));
        }
    });
}

/// It is no agent: the machine decides how long it takes, and no virtual time passes meanwhile.
#[test]
fn who_waits_for_a_signal_hears_of_the_end_of_a_program_at_once() {
    assert_same_beside(6, async |_, log| {
        let mut ended = signal(SignalKind::child()).unwrap();
        let begun = Instant::now();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            ended.recv().await.unwrap();
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        log.say("reaped");
    });
}
