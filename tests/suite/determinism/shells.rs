//! Agents behind a shell, as job runners and dev servers start them: who starts first, and who reaps.

use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use rstest::rstest;
use supervise_harness::{Agent, Script, SimHandle};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::{Duration, sleep, timeout};

use super::{Busy, Log, assert_same};

/// A command line of the agent for a shell.
pub(super) fn words(agent: &Agent) -> String {
    let words = std::iter::once(agent.program().into()).chain(agent.args());
    let quoted = words.map(|word| format!("'{}'", word.into_string().unwrap()));
    quoted.collect::<Vec<_>>().join(" ")
}

/// The text with this for each of these letters. All at once: what stands for one may have another in it.
pub(super) fn filled(text: &str, words: &[(char, &str)]) -> String {
    let word = |letter: char| {
        let found = words.iter().find(|(name, _)| *name == letter);
        found.map_or_else(|| letter.to_string(), |(_, word)| (*word).to_owned())
    };
    text.chars().map(word).collect()
}

/// Reads what a command's processes write to its standard output, and when.
pub(super) async fn read_lines(mut command: Command, sim: &SimHandle, log: &Log) -> ExitStatus {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        log.say(format!("{line} {:?}", sim.now().since_origin()));
    }
    child.wait().await.unwrap()
}

/// An agent that writes a line after a second, and one after two.
pub(super) fn talker(sim: &SimHandle) -> Agent {
    let script =
        Script::new().then_do("run 1s; write \"one\\n\"; run 1s; write \"two\\n\"; exit 3");
    sim.agent("talker", script.unwrap())
}

pub(super) fn shell(text: &str) -> Command {
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
    assert_same(20, async |sim, log| {
        let [a, b] = [("a", 3), ("b", 5)].map(|(name, secs)| {
            let script = Script::new().run_for(Duration::from_secs(secs)).exit(1);
            sim.agent(name, script)
        });
        let text = filled(text, &[('A', &words(&a)), ('B', &words(&b))]);
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
    assert_same(15, async |sim, _| {
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
    assert_same(20, async |sim: SimHandle, log| {
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

/// It has no parent here any more, and is no agent: what it writes is to be waited for all the same.
#[rstest]
#[case::a_pipeline("A | cat & exit 0")]
#[case::two_in_a_session_of_their_own("setsid sh -c \"A & wait\" & exit 0")]
#[case::and_one_more("setsid sh -c \"A | cat | cat\" & exit 0")]
fn what_outlives_its_shell_and_works_is_waited_for(#[case] text: &str) {
    let _busy = Busy::new();
    assert_same(12, async |sim: SimHandle, log| {
        let text = text.replace('A', &words(&talker(&sim)));
        assert!(read_lines(shell(&text), &sim, &log).await.success());
        assert_eq!(log.lines(), ["one 1s", "two 2s"]);
    });
}

#[test]
fn what_a_shell_had_started_before_it_became_an_agent_is_waited_for() {
    let _busy = Busy::new();
    assert_same(12, async |sim: SimHandle, log| {
        let job = sim.agent("job", Script::new().run_for(Duration::from_secs(5)).exit(6));
        // The first holds the output open until it ends.
        let names = [('A', &*words(&talker(&sim))), ('B', &words(&job))];
        let text = filled("(B; cat /dev/null) & exec A", &names);
        let all = read_lines(shell(&text), &sim, &log);
        // Time would pass to here where nobody saw that the job's shell goes on.
        let status = timeout(Duration::from_secs(100), all).await;
        assert_eq!(status.unwrap().code(), Some(3));
        assert_eq!(log.lines(), ["one 1s", "two 2s"]);
        assert_eq!(sim.now().since_origin(), Duration::from_secs(5));
        assert_eq!(sim.timeline().exits("job").len(), 1);
    });
}

/// Bash is told of the end of the run in a process substitution after it has read to the end, or before.
#[test]
fn a_shell_that_ends_with_what_it_reads_is_not_said_to_have_reaped() {
    let _busy = Busy::new();
    assert_same(20, async |sim: SimHandle, log| {
        let text = "while read x; do echo \"<$x>\"; done < <(A); echo end";
        let mut bash = Command::new("bash");
        bash.args(["-c", &text.replace('A', &words(&talker(&sim)))]);
        read_lines(bash, &sim, &log).await;
        assert_eq!(log.lines(), ["<one> 1s", "<two> 2s", "end 2s"]);
        let timeline = sim.timeline().to_string();
        assert!(!timeline.contains("reap"), "{timeline}");
    });
}

/// make(1) waits in select(2) for its jobs.
#[test]
fn who_waits_in_select_for_an_agent_is_at_rest() {
    assert_same(20, async |sim: SimHandle, log| {
        let text = "$| = 1; open($p, '-|', @ARGV); vec($set, fileno($p), 1) = 1;
            do { select($ready = $set, undef, undef, undef); $n = sysread($p, $_, 99); print } while $n;";
        let agent = talker(&sim);
        let mut perl = Command::new("perl");
        perl.args(["-e", text])
            .arg(agent.program())
            .args(agent.args());
        read_lines(perl, &sim, &log).await;
        assert_eq!(log.lines(), ["one 1s", "two 2s"]);
    });
}

/// The same with an empty set: it waits for a signal alone.
#[test]
fn who_waits_in_select_for_a_signal_of_its_agent_is_at_rest() {
    assert_same(20, async |sim: SimHandle, log| {
        let text = "$SIG{CHLD} = sub { $ended = 1 }; exec(@ARGV) if !fork();
            select(undef, undef, undef, undef) while !$ended; wait; print $? >> 8, \"\\n\"";
        let agent = talker(&sim);
        let mut perl = Command::new("perl");
        perl.args(["-e", text])
            .arg(agent.program())
            .args(agent.args());
        read_lines(perl, &sim, &log).await;
        assert_eq!(log.lines(), ["one 1s", "two 2s", "3 2s"]);
    });
}

#[test]
fn a_fifo_between_processes_of_a_shell_is_the_sims() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let fifo = fifo.to_str().unwrap();
    assert_same(20, async |sim: SimHandle, log| {
        let names = [('A', &*words(&talker(&sim))), ('F', fifo)];
        let text = filled("A > F & cat < F; wait; echo end", &names);
        read_lines(shell(&text), &sim, &log).await;
        assert_eq!(log.lines(), ["one 1s", "two 2s", "end 2s"]);
    });
}

/// Its arguments are the agent's, as those of `flock FILE agent` are, and it has something else to do before.
#[rstest]
#[case::it_waits_for_its_input("read x; exec \"$@\"")]
#[case::and_has_a_child_by_then("read x; \"$@\"; exit $?")]
fn a_wrapper_that_waits_before_it_becomes_an_agent_is_at_rest(#[case] text: &str) {
    assert_same(20, async |sim: SimHandle, log| {
        let agent = talker(&sim);
        let mut wrapper = Command::new("sh");
        wrapper.args(["-c", text, "sh"]).arg(agent.program());
        wrapper.args(agent.args()).stdin(Stdio::piped());
        let mut child = wrapper.stdout(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        sleep(Duration::from_secs(3)).await;
        input.write_all(b"go\n").await.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            log.say(format!("{line} {:?}", sim.now().since_origin()));
        }
        assert_eq!(child.wait().await.unwrap().code(), Some(3));
        assert_eq!(log.lines(), ["one 4s", "two 5s"]);
    });
}
