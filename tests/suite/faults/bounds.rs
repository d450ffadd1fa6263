//! What ends, whatever the code under test and its agents do.

use std::fmt;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rstest::rstest;
use supervise_harness::supervisor::{RestartLimit, RestartTracker, Supervisor};
use supervise_harness::{Agent, Run, Script, Sim};
use tokio::process::Command;
use tokio::time::sleep;

use super::{assert_contains, seconds, short, stuck};
use crate::child;

/// What the test at the path says in a process of its own that has to end as a failed test program does.
#[track_caller]
fn fails_in_a_child(path: &str) -> String {
    let output = child::command(path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(101), "{text}");
    text
}

/// real-time: the watchdog's limit, and the 5 s after it.
#[test]
fn code_that_never_comes_back_ends_the_process_with_the_verdict() {
    let path = "faults::bounds::code_that_never_comes_back_ends_the_process_with_the_verdict";
    if child::is_child(path) {
        short().run(async |sim| {
            let worker = sim.agent("worker", Script::new().stay());
            let _child = Command::from(worker.command()).spawn().unwrap();
            worker.started().await;
            loop {
                std::hint::black_box(0);
            }
        });
    }
    let text = fails_in_a_child(path);
    assert_contains(&text, "the code under test holds the runtime's thread");
    assert_contains(&text, "its thread has not come back within 5s");
    assert_contains(&text, "worker#1  start");
}

/// All that it starts after the verdict ends at once.
#[test]
fn code_that_blocks_and_restarts_comes_back() {
    let text = stuck(short().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(seconds(60)).exit(0));
        for _ in 0..3 {
            worker.command().stderr(Stdio::null()).status().unwrap();
        }
        for _ in 0..3 {
            let mut sleep = std::process::Command::new("/bin/sleep");
            sleep.arg("1000").status().unwrap();
        }
    }));
    assert_contains(&text, "the code under test holds the runtime's thread");
}

/// Its agents are no children of the sim's thread: they end since nobody lets them in.
#[test]
fn code_that_joins_a_thread_that_restarts_comes_back() {
    let text = stuck(short().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(seconds(60)).exit(0));
        let restart = move || {
            for _ in 0..300 {
                worker.command().stderr(Stdio::null()).status().unwrap();
            }
        };
        std::thread::spawn(restart).join().unwrap();
    }));
    assert_contains(&text, "the code under test holds the runtime's thread");
}

struct Runs(Agent);

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} have begun", self.0.runs())
    }
}

#[test]
fn a_note_may_ask_the_sim_for_its_text() {
    let path = "faults::bounds::a_note_may_ask_the_sim_for_its_text";
    child::run(path, || {
        let timeline = Sim::new().run(async |sim| {
            let worker = sim.agent("worker", Script::new().run_for(seconds(1)).exit(0));
            worker.note(Runs(worker.clone()));
            sim.note(Runs(worker.clone()));
            let tracker = RestartTracker::builder().limit(RestartLimit::consecutive(1).unwrap());
            let spawner = worker.spawner_options().build().unwrap();
            let supervisor =
                Supervisor::builder(spawner, "worker").tracker(tracker.build().unwrap());
            let (supervisor, events) = supervisor.start().unwrap();
            worker.follow(events).note(Runs(worker.clone()));
            supervisor.wait().await.unwrap();
        });
        let notes = timeline.notes();
        let written = notes.iter().filter(|note| note.contains("have begun"));
        assert_eq!(written.count(), 3, "{timeline}");
    });
}

#[test]
fn an_agent_that_does_not_stop_talking_is_named() {
    for script in ["forever { beat }", "repeat 4294967295 { ready }"] {
        let text = stuck(Sim::new().try_run(async |sim| {
            let talker = sim.agent("talker", Script::new().then_do(script).unwrap());
            Command::from(talker.command()).status().await.unwrap();
        }));
        assert_contains(&text, "talker#1 does not stop talking: it has said ");
        assert_contains(&text, "and time waits for it; it last said: it is ");
    }
}

/// A script that has an end is no endless talk, however slow the machine is.
#[rstest]
#[case::of_statements(&"beat; ".repeat(5_000))]
#[case::of_blocks("repeat 50 { repeat 50 { beat; beat } }")]
#[case::of_a_descendant("start it { repeat 5000 { beat }; exit 0 }; run 1s")]
fn a_script_that_comes_to_an_end_may_take_longer_than_the_limit(#[case] script: &str) {
    // real-time: less than so many turns take, and more than the start of an agent does on a busy machine.
    let sim = Sim::builder().watchdog(Duration::from_millis(500)).build();
    sim.unwrap().run(async |sim| {
        let talker = sim.agent("talker", Script::new().then_do(script).unwrap().exit(0));
        Command::from(talker.command()).status().await.unwrap();
    });
}

/// Nor is what the test tells it one by one, all at one instant.
#[rstest]
#[case::to_do_something(|run: &Run| run.perform("beat").unwrap())]
#[case::to_pass_a_gate_where_it_is_not(|run: &Run| run.open("none"))]
fn what_an_agent_is_told_may_take_longer_than_the_limit(#[case] tell: fn(&Run)) {
    // real-time: less than so many turns take, and more than the start of an agent does on a busy machine.
    let sim = Sim::builder().watchdog(Duration::from_millis(500)).build();
    sim.unwrap().run(async |sim| {
        let worker = sim.agent("worker", Script::new());
        let mut child = Command::from(worker.command()).spawn().unwrap();
        let run = worker.started().await;
        for _ in 0..5_000 {
            tell(&run);
        }
        run.exit(0).await;
        child.wait().await.unwrap();
    });
}

/// It would never end: each of its processes does.
#[rstest]
#[case::of_an_agent(true)]
#[case::of_another_program(false)]
#[ignore = "starts 5,000 processes: .ci/run asks for it"]
fn a_restart_loop_without_a_delay_is_named(#[case] is_agent: bool) {
    let text = stuck(Sim::new().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new().exit(1));
        loop {
            let mut command = match is_agent {
                true => Command::from(worker.command()),
                false => Command::new("false"),
            };
            command.status().await.unwrap();
        }
    }));
    let expected = "5000 processes have ended at 0.000s, and time has not passed: the code under test starts one \
                    after the other without a delay";
    assert_contains(&text, expected);
}

/// In one instant, as much as a test may want.
#[test]
fn an_agent_may_say_much() {
    let timeline = Sim::new().run(async |sim| {
        let script = Script::new().then_do("repeat 20000 { beat }; exit 0");
        let talker = sim.agent("talker", script.unwrap());
        Command::from(talker.command()).status().await.unwrap();
    });
    assert_eq!(timeline.events().len(), 20_003);
}

#[test]
fn an_agent_that_is_started_after_its_sim_ends_by_itself() {
    let mut kept = None;
    Sim::new().run(async |sim| kept = Some(sim.agent("worker", Script::new().stay())));
    let mut command = kept.as_ref().unwrap().command();
    let output = command.output().unwrap();
    assert!(!output.status.success());
}

/// What keeps an agent keeps none of its sim's descriptors.
#[test]
fn an_agent_that_is_kept_holds_nothing_open() {
    let path = "faults::bounds::an_agent_that_is_kept_holds_nothing_open";
    child::run(path, || {
        let run = || {
            let mut kept = None;
            let result = Sim::new().try_run(async |sim| {
                let worker = sim.agent("worker", Script::new().stay());
                std::mem::forget(worker.command().spawn().unwrap());
                worker.started().await;
                kept = Some(worker);
            });
            result.unwrap_err();
            kept
        };
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        // The runtimes' own, of which some stay.
        let mut kept = vec![run()];
        let before = open();
        kept.extend((0..10).map(|_| run()));
        // An epoll instance each.
        assert!(open() <= before + 10, "{before} and {}", open());
    });
}

/// real-time: it takes longer than the limit. The clock goes on to what the agent waits for.
#[test]
fn looking_again_and_again_until_an_agent_ends_is_not_stuck() {
    let limit = Duration::from_millis(300);
    let sim = Sim::builder().watchdog(limit).build().unwrap();
    sim.run(async |sim| {
        let begun = Instant::now();
        let worker = sim.agent("worker", Script::new().run_for(seconds(1_000_000)).exit(0));
        let mut child = Command::from(worker.command()).spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            let is_long_enough = begun.elapsed() > limit * 3;
            sleep(seconds(if is_long_enough { 100_000 } else { 1 })).await;
        }
    });
}

/// real-time: the process is stopped for longer than the limit of its watchdog, and goes on a while.
#[test]
fn time_in_which_the_process_is_stopped_does_not_count() {
    const FILE: &str = "SUITE_FILE";
    let path = "faults::bounds::time_in_which_the_process_is_stopped_does_not_count";
    if child::is_child(path) {
        let file = std::env::var(FILE).unwrap();
        let sim = Sim::builder().watchdog(seconds(2)).build().unwrap();
        sim.run(async |_| {
            let wait = "echo begun >\"$1\"; while [ -e \"$1\" ]; do sleep 0.05; done";
            let mut shell = Command::new("sh");
            shell
                .args(["-c", wait, "sh", &file])
                .status()
                .await
                .unwrap();
        });
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let mut command = child::command(path);
    let mut child = command
        .env(FILE, &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    while !file.exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    kill(pid, Signal::SIGSTOP).unwrap();
    std::thread::sleep(seconds(3));
    kill(pid, Signal::SIGCONT).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    std::fs::remove_file(&file).unwrap();
    assert!(child.wait().unwrap().success());
}

/// What a stuck agent was sent does not reach it.
#[test]
fn a_signal_that_an_agent_has_blocked_is_named() {
    let text = stuck(short().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new().stay());
        let mut command = Command::from(worker.command());
        // SAFETY: it calls pthread_sigmask, which may be called there.
        unsafe {
            command.pre_exec(|| {
                let mut set = nix::sys::signal::SigSet::empty();
                set.add(Signal::SIGTERM);
                set.thread_block()?;
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap();
        let pid = worker.started().await.pid();
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGTERM).unwrap();
        child.wait().await.unwrap();
    }));
    assert_contains(&text, "it was sent SIGTERM, which it has blocked");
}

/// What has lost its parents is no proven descendant of this process. It takes root to become somebody
/// else; an agent that has its parents and is somebody else's runs.
#[test]
fn a_stranger_of_another_user_is_refused_and_named() {
    let path = "faults::bounds::a_stranger_of_another_user_is_refused_and_named";
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if !child::is_child(path) {
        let output = child::command(path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        let named = text.matches("the connection of a stranger").count();
        assert_eq!(named, usize::from(is_root), "{text}");
        return;
    }
    if !is_root {
        return;
    }
    // By its descriptor: the folders on the way to it need not be open to everybody.
    let file = std::fs::File::open(supervise_harness::stub::path().unwrap()).unwrap();
    let inherited = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty());
    nix::fcntl::fcntl(&file, inherited).unwrap();
    let program = format!("/proc/self/fd/{}", file.as_raw_fd());
    let timeline = Sim::new().run(async |sim| {
        let script = Script::new().run_for(seconds(1)).exit(3);
        let (own, stranger) = (
            sim.agent("own", script.clone()),
            sim.agent("stranger", script),
        );
        let mut command = Command::new(&program);
        let status = command
            .args(own.args())
            .uid(65534)
            .gid(65534)
            .status()
            .await;
        assert_eq!(status.unwrap().code(), Some(3));
        let orphan = "top=$$; (while [ -d /proc/$top ]; do :; done; exec \"$@\") &";
        let mut command = Command::new("sh");
        command
            .args(["-c", orphan, "sh"])
            .arg(&program)
            .args(stranger.args());
        command.uid(65534).gid(65534);
        // Its output ends with it.
        command.output().await.unwrap();
        assert_eq!(stranger.runs(), 0);
    });
    assert_eq!(timeline.starts("own"), 1, "{timeline}");
    assert_eq!(timeline.findings(), [""; 0]);
}
