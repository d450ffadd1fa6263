//! Agents driven by hand, in virtual time and in real time.

use std::task::{Context, Poll, Waker};

use rstest::rstest;
use supervise_harness::{Agent, ExitStatus, Run, Script, Signal, Sim, SimHandle, Timeline};
use tokio::process::{Child, Command};
// real-time: by the sim's clock, but where a sleep says so.
use tokio::time::sleep;

use super::{lines, seconds};

fn spawn(agent: &Agent) -> Child {
    Command::from(agent.command())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// An agent that does nothing by itself, and its run.
async fn idle(sim: &SimHandle) -> (Child, Run) {
    let worker = sim.agent("worker", Script::new());
    let child = spawn(&worker);
    (child, worker.started().await)
}

/// What the future has for whoever asks once.
fn now<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn in_mode(real: bool, body: impl AsyncFnOnce(SimHandle)) -> Timeline {
    let sim = match real {
        true => Sim::builder().real_time().build().unwrap(),
        false => Sim::new(),
    };
    sim.run(body)
}

#[rstest]
fn runs_come_in_the_order_in_which_they_started(#[values(false, true)] real: bool) {
    in_mode(real, async |sim| {
        let worker = sim.agent("worker", Script::new());
        let mut pids = Vec::new();
        let mut children = Vec::new();
        for _ in 0..3 {
            let child = spawn(&worker);
            // Each has said hello before the next is started.
            let probe = sim.agent("worker", Script::new());
            let number = pids.len() + 1;
            while probe.runs() < number {
                // real-time: nothing tells of it but looking; the loop is the condition.
                sleep(std::time::Duration::from_millis(1)).await;
            }
            pids.push(child.id().unwrap());
            children.push(child);
        }
        for (number, pid) in (1..).zip(pids) {
            let run = worker.started().await;
            assert_eq!((run.number(), run.pid()), (number, pid));
            assert!(run.is_alive());
            run.exit(0).await;
            assert!(!run.is_alive());
        }
        for mut child in children {
            child.wait().await.unwrap();
        }
    });
}

#[rstest]
fn a_run_exits_and_dies_as_it_is_told(#[values(false, true)] real: bool) {
    let timeline = in_mode(real, async |sim| {
        let (mut child, run) = idle(&sim).await;
        let status = run.exit(7).await;
        assert_eq!(status, Some(ExitStatus::Exited { code: 7 }));
        assert_eq!(run.ended().await, status);
        child.wait().await.unwrap();

        let (mut child, run) = idle(&sim).await;
        let status = run.die_by(Signal::SEGV).await;
        let expected = ExitStatus::Signaled {
            signal: Signal::SEGV,
            core_dumped: false,
        };
        assert_eq!(status, Some(expected));
        child.wait().await.unwrap();
    });
    let lines = lines(&timeline);
    let ends: Vec<_> = lines.iter().filter(|line| line.contains("exit")).collect();
    assert!(ends[0].ends_with("worker#1 exit code=7"), "{lines:?}");
    assert!(
        ends[1].ends_with("worker#2 exit signal=SIGSEGV"),
        "{lines:?}"
    );
}

#[rstest]
fn a_run_gets_ready_each_time_it_is_told(#[values(false, true)] real: bool) {
    let timeline = in_mode(real, async |sim| {
        let (mut child, run) = idle(&sim).await;
        for _ in 0..3 {
            run.ready().await;
            run.became_ready().await;
            sim.note("told");
            // real-time: in both modes, so that the next step is no answer to this one; nothing is
            // decided by how long it takes.
            sleep(std::time::Duration::from_millis(1)).await;
        }
        run.exit(0).await;
        child.wait().await.unwrap();
    });
    let lines = lines(&timeline);
    let lines: Vec<_> = lines
        .iter()
        .filter_map(|line| line.rsplit(' ').next())
        .collect();
    let expected = ["ready", "\"told\""].repeat(3);
    assert_eq!(lines[1..7], expected[..]);
}

#[rstest]
fn what_a_run_writes_is_what_it_was_told(#[values(false, true)] real: bool) {
    in_mode(real, async |sim| {
        let worker = sim.agent("worker", Script::new());
        let child = Command::from(worker.command())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let run = worker.started().await;
        run.write("one\n");
        run.write("two \"quoted\" \\ \u{e9}\n");
        run.perform("write stdout \"three\\n\"; exit 0").unwrap();
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "one\ntwo \"quoted\" \\ \u{e9}\nthree\n"
        );
    });
}

#[test]
fn statements_that_are_none_are_an_error_and_change_nothing() {
    Sim::new().run(async |sim| {
        let (mut child, run) = idle(&sim).await;
        let error = run.perform("exit 0; frobnicate").unwrap_err();
        assert!(error.to_string().contains("frobnicate"), "{error}");
        sleep(seconds(5)).await;
        assert!(run.is_alive());
        run.exit(0).await;
        child.wait().await.unwrap();
    });
}

#[rstest]
fn a_gate_holds_a_run_until_it_is_opened(#[values(false, true)] real: bool) {
    in_mode(real, async |sim| {
        let script = Script::new().gate("first").gate("second").exit(4);
        let worker = sim.agent("worker", script);
        let mut child = spawn(&worker);
        let run = worker.started().await;
        run.at_gate("first").await;
        run.open("first");
        run.at_gate("second").await;
        run.open("second");
        assert_eq!(run.ended().await, Some(ExitStatus::Exited { code: 4 }));
        child.wait().await.unwrap();
    });
}

#[rstest]
fn a_gate_that_was_opened_before_lets_one_passage_through(#[values(false, true)] real: bool) {
    in_mode(real, async |sim| {
        let (mut child, run) = idle(&sim).await;
        run.open("early");
        run.perform("gate early; exit 5").unwrap();
        assert_eq!(run.ended().await, Some(ExitStatus::Exited { code: 5 }));
        child.wait().await.unwrap();
    });
}

/// The gate before was the same: to be at it again takes another coming.
#[rstest]
fn a_run_is_at_a_gate_again_only_when_it_has_come_to_it_again(#[values(false, true)] real: bool) {
    let timeline = in_mode(real, async |sim| {
        let script = Script::new().then_do("repeat 3 { gate again; beat }; exit 0");
        let worker = sim.agent("worker", script.unwrap());
        let mut child = spawn(&worker);
        let run = worker.started().await;
        for _ in 0..3 {
            run.at_gate("again").await;
            sim.note("at it");
            // real-time: in both modes, so that the next step is no answer to this one; nothing is
            // decided by how long it takes.
            sleep(std::time::Duration::from_millis(1)).await;
            run.open("again");
        }
        run.ended().await;
        child.wait().await.unwrap();
    });
    let lines = lines(&timeline);
    let words: Vec<_> = lines
        .iter()
        .filter_map(|line| {
            ["gate", "at it", "beat"]
                .into_iter()
                .find(|word| line.contains(word))
        })
        .collect();
    assert_eq!(words, ["gate", "at it", "beat"].repeat(3));
}

#[rstest]
fn the_signals_that_a_run_trapped_are_listed(#[values(false, true)] real: bool) {
    in_mode(real, async |sim| {
        let script = Script::new().count(Signal::HUP).ready().stay();
        let worker = sim.agent("worker", script);
        let mut child = spawn(&worker);
        let run = worker.started().await;
        run.became_ready().await;
        let pid = nix::unistd::Pid::from_raw(run.pid().cast_signed());
        for count in 1..=2 {
            nix::sys::signal::kill(pid, nix::sys::signal::SIGHUP).unwrap();
            while run.signals().len() < count {
                // real-time: nothing tells of it but looking; the loop is the condition.
                sleep(std::time::Duration::from_millis(1)).await;
            }
        }
        let signals: Vec<_> = run.signals().iter().map(|(s, n, _)| (*s, *n)).collect();
        assert_eq!(signals, [(Signal::HUP, 1), (Signal::HUP, 2)]);
        run.exit(0).await;
        child.wait().await.unwrap();
    });
}

/// Many more than a socket holds.
#[rstest]
fn what_a_frozen_run_is_told_it_does_when_it_goes_on(#[values(false, true)] real: bool) {
    const BEATS: usize = 2000;
    let timeline = in_mode(real, async |sim| {
        let (mut child, run) = idle(&sim).await;
        let pid = nix::unistd::Pid::from_raw(run.pid().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGSTOP).unwrap();
        for _ in 0..BEATS {
            run.perform("beat").unwrap();
        }
        nix::sys::signal::kill(pid, nix::sys::signal::SIGCONT).unwrap();
        assert_eq!(run.exit(3).await, Some(ExitStatus::Exited { code: 3 }));
        child.wait().await.unwrap();
    });
    let text = timeline.to_string();
    assert_eq!(text.matches("beat").count(), BEATS, "{text}");
}

#[rstest]
fn what_a_run_inherited_is_reported_each_time_until_its_end(#[values(false, true)] real: bool) {
    in_mode(real, async |sim| {
        let (mut child, run) = idle(&sim).await;
        let first = run.hygiene().await.unwrap();
        assert_eq!(Some(first.pid), child.id());
        assert!(run.hygiene().await.is_some_and(|second| second == first));
        run.exit(0).await;
        child.wait().await.unwrap();
        assert!(run.hygiene().await.is_none());
    });
}

/// What it does not answer does not wake anybody.
#[rstest]
fn what_a_frozen_run_is_told_reaches_it_although_it_says_nothing(
    #[values(false, true)] real: bool,
) {
    in_mode(real, async |sim| {
        let (mut child, run) = idle(&sim).await;
        let pid = nix::unistd::Pid::from_raw(run.pid().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGSTOP).unwrap();
        for _ in 0..2000 {
            run.open("none");
        }
        nix::sys::signal::kill(pid, nix::sys::signal::SIGCONT).unwrap();
        assert_eq!(run.exit(3).await, Some(ExitStatus::Exited { code: 3 }));
        child.wait().await.unwrap();
    });
}

/// Not as one before, either.
#[test]
fn a_run_that_cannot_report_what_it_inherited_has_not() {
    Sim::new().run(async |sim| {
        let (mut child, run) = idle(&sim).await;
        run.hygiene().await.unwrap();
        run.perform("exit 0").unwrap();
        assert!(run.hygiene().await.is_none());
        child.wait().await.unwrap();
    });
}

#[rstest]
fn a_run_is_at_one_gate_and_another_does_not_matter(#[values(false, true)] real: bool) {
    in_mode(real, async |sim| {
        let script = Script::new().gate("one").gate("two").exit(4);
        let worker = sim.agent("worker", script);
        let mut child = spawn(&worker);
        let run = worker.started().await;
        run.at_gate("one").await;
        let mut other = std::pin::pin!(run.at_gate("two"));
        assert!(now(other.as_mut()).is_none());
        run.open("three");
        // It is where it was.
        run.at_gate("one").await;
        assert!(now(other.as_mut()).is_none());
        run.open("one");
        other.await;
        run.open("two");
        assert_eq!(run.ended().await, Some(ExitStatus::Exited { code: 4 }));
        child.wait().await.unwrap();
    });
}

#[rstest]
fn a_script_that_is_set_later_is_for_the_runs_to_come(#[values(false, true)] real: bool) {
    in_mode(real, async |sim| {
        let worker = sim.agent("worker", Script::new().exit(1));
        assert_eq!(spawn(&worker).wait().await.unwrap().code(), Some(1));
        worker.set_script(Script::new().exit(2));
        assert_eq!(spawn(&worker).wait().await.unwrap().code(), Some(2));
        // The same name is the same agent.
        let again = sim.agent("worker", Script::new().exit(3));
        assert_eq!(spawn(&worker).wait().await.unwrap().code(), Some(3));
        assert_eq!(
            (worker.runs(), again.runs(), again.name()),
            (3, 3, "worker")
        );
        // What one handle has taken the other does not get.
        assert_eq!(worker.started().await.number(), 1);
        assert_eq!(again.started().await.number(), 2);
    });
}

#[rstest]
fn a_name_may_be_anything(#[values(false, true)] real: bool) {
    let timeline = in_mode(real, async |sim| {
        for name in ["", "two words", "\"quoted\"", "\u{1f980} --id", "@x"] {
            let worker = sim.agent(name, Script::new().exit(0));
            spawn(&worker).wait().await.unwrap();
        }
    });
    assert_eq!(timeline.findings(), [""; 0]);
    assert_eq!(timeline.starts("two words"), 1);
    assert_eq!(timeline.starts(""), 1);
}

#[test]
fn real_time_gives_a_timeline_without_times() {
    let run = |real| {
        in_mode(real, async |sim| {
            let script = Script::new()
                .ready()
                .run_for(std::time::Duration::from_millis(20))
                .exit(3);
            let worker = sim.agent("worker", script);
            spawn(&worker).wait().await.unwrap();
            sim.note("done");
        })
    };
    assert_eq!(
        lines(&run(true)),
        [
            "worker#1 start",
            "worker#1 ready",
            "worker#1 exit code=3",
            "worker#1 reap",
            "subject note \"done\"",
        ]
    );
    assert_eq!(
        lines(&run(false)),
        [
            "+0.000 worker#1 start",
            "+0.000 worker#1 ready",
            "+0.020 worker#1 exit code=3",
            "+0.000 worker#1 reap",
            "+0.000 subject note \"done\"",
        ]
    );
}
