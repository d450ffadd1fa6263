//! Agents behind a shell, as job runners and dev servers start them: who starts first, and who reaps.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use rstest::rstest;
use supervise_harness::{Agent, Script, SimHandle};
use tokio::process::Command;
use tokio::time::{Duration, sleep};

use super::{Busy, assert_same};

/// A command line of the agent for a shell.
pub(super) fn words(agent: &Agent) -> String {
    let words = std::iter::once(agent.program().into()).chain(agent.args());
    let quoted = words.map(|word| format!("'{}'", word.into_string().unwrap()));
    quoted.collect::<Vec<_>>().join(" ")
}

fn shell(text: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", text]).stdout(Stdio::null());
    shell
}

/// Two agents that end one after the other, and what a shell does with them.
#[rstest]
#[case::both_in_the_background("A & B & wait")]
#[case::a_pipeline("A | B")]
#[case::one_in_the_background("A & B; wait")]
fn a_shell_that_starts_two_starts_them_in_its_order(#[case] text: &str) {
    let _busy = Busy::new();
    assert_same(60, async |sim, log| {
        let [a, b] = [("a", 3), ("b", 5)].map(|(name, secs)| {
            let script = Script::new().run_for(Duration::from_secs(secs)).exit(1);
            sim.agent(name, script)
        });
        let text = text.replace('A', &words(&a)).replace('B', &words(&b));
        log.say(format!("{}", shell(&text).status().await.unwrap()));
        let timeline = sim.timeline().to_string();
        let starts = timeline.lines().filter(|line| line.contains("start"));
        let starts: Vec<&str> = starts.collect();
        assert_eq!(starts, ["+0.000  a#1  start", "+0.000  b#1  start"]);
    });
}

/// Its shell cannot reap it then: init does, when it pleases.
#[rstest]
#[case::at_once(Signal::SIGKILL)]
#[case::politely(Signal::SIGTERM)]
fn a_shell_and_its_agent_that_end_as_one_group_leave_no_reap(
    #[case] signal: Signal,
    #[values("A; true", "A | cat; true")] text: &str,
) {
    let _busy = Busy::new();
    assert_same(40, async |sim, _| {
        let job = sim.agent("job", Script::new().stay());
        let mut shell = shell(&text.replace('A', &words(&job)));
        let mut shell = shell.process_group(0).spawn().unwrap();
        sleep(Duration::from_secs(1)).await;
        let group = i32::try_from(shell.id().unwrap()).unwrap();
        killpg(Pid::from_raw(group), signal).unwrap();
        shell.wait().await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert!(!sim.timeline().to_string().contains("reap"));
    });
}

#[rstest]
#[case::its_exit("A; true")]
#[case::a_background_that_is_waited_for("A & wait")]
fn a_shell_that_lives_reaps_its_agent(#[case] text: &str) {
    assert_same(20, async |sim: SimHandle, _| {
        let script = Script::new().run_for(Duration::from_secs(1)).exit(1);
        let job = sim.agent("job", script);
        let mut shell = shell(&text.replace('A', &words(&job)));
        shell.status().await.unwrap();
        assert!(sim.timeline().to_string().contains("job#1  reap"));
    });
}

/// It is an orphan by then.
#[test]
fn an_agent_that_outlives_its_shell_has_no_reap() {
    assert_same(20, async |sim: SimHandle, _| {
        let script = Script::new().run_for(Duration::from_secs(1)).exit(1);
        let job = sim.agent("job", script);
        shell(&format!("{} & true", words(&job)))
            .status()
            .await
            .unwrap();
        sleep(Duration::from_secs(2)).await;
        let timeline = sim.timeline();
        assert_eq!(timeline.exits("job").len(), 1);
        assert!(!timeline.to_string().contains("reap"), "{timeline}");
    });
}

/// Which process has which end of the pipes in between changes while it is looked at.
#[rstest]
#[case::a_pipeline("x=$(A | cat); test $x = val")]
#[case::and_one_more("x=$(A | cat); y=$(A | tr v w; A); test $x$y = valwalval")]
fn the_output_of_agents_is_taken_into_a_variable(#[case] text: &str) {
    let _busy = Busy::new();
    assert_same(60, async |sim: SimHandle, log| {
        let script = Script::new()
            .then_do("run 1s; write \"val\"; exit 3")
            .unwrap();
        let job = sim.agent("job", script);
        let status = shell(&text.replace('A', &words(&job))).status().await;
        assert!(status.unwrap().success());
        log.say("over");
    });
}

/// What is stopped waits for whoever lets it go on.
#[rstest]
#[case::alone(false)]
#[case::with_its_agent(true)]
fn a_shell_that_is_stopped_goes_on_when_it_is_told(#[case] is_group: bool) {
    assert_same(20, async |sim: SimHandle, _| {
        let script = Script::new().run_for(Duration::from_secs(3)).exit(1);
        let job = sim.agent("job", script);
        let mut shell = shell(&format!("{}; exit 4", words(&job)));
        let mut shell = shell.process_group(0).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(shell.id().unwrap()).unwrap());
        let tell = |signal| match is_group {
            true => killpg(pid, signal).unwrap(),
            false => kill(pid, signal).unwrap(),
        };
        sleep(Duration::from_secs(1)).await;
        tell(Signal::SIGSTOP);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(shell.try_wait().unwrap(), None);
        tell(Signal::SIGCONT);
        assert_eq!(shell.wait().await.unwrap().code(), Some(4));
    });
}
