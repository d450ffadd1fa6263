//! What is read, and when, beside what else happens at that instant.

use std::process::Stdio;

use rstest::rstest;
use supervise_harness::{Script, SimHandle};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::{Busy, Log, assert_same, spawn};

/// Somebody reads all the time, so that nothing is ever at rest with a full pipe.
#[test]
fn a_flood_that_is_read_all_the_time_is_the_same_each_time() {
    let _busy = Busy::new();
    assert_same(15, async |sim, log| {
        for _ in 0..4 {
            let script = "run 1s; write 200KiB; write stderr 100KiB; exit 0";
            let child = spawn(&sim, script, |command| {
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
            });
            let output = child.wait_with_output().await.unwrap();
            let (out, err) = (output.stdout.len(), output.stderr.len());
            log.say(format!("{out} {err} {}", output.status));
        }
    });
}

/// All that the pipe holds, and then again.
#[test]
fn the_reads_of_a_flood_have_the_same_sizes_each_time() {
    let _busy = Busy::new();
    assert_same(15, async |sim, log| {
        let mut child = spawn(
            &sim,
            "write 300KiB; run 1s; write 300KiB; exit 0",
            |command| {
                command.stdout(Stdio::piped());
            },
        );
        let mut stdout = child.stdout.take().unwrap();
        let mut room = vec![0; 1 << 20];
        loop {
            match stdout.read(&mut room).await.unwrap() {
                0 => break,
                length => log.say(length.to_string()),
            }
        }
        child.wait().await.unwrap();
    });
}

/// The kernel would choose which of them goes on.
#[test]
fn two_that_are_blocked_on_one_pipe_go_on_in_the_same_order_each_time() {
    let _busy = Busy::new();
    assert_same(15, async |sim, log| {
        let script = "start one { write 200KiB; exit 0 }; start two { write 200KiB; exit 0 }; run 5s; exit 0";
        let mut child = spawn(&sim, script, |command| {
            command.stdout(Stdio::piped());
        });
        let mut stdout = child.stdout.take().unwrap();
        // real-time: none; by the sim's clock, while both are blocked.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let mut read = Vec::new();
        stdout.read_to_end(&mut read).await.unwrap();
        log.say(read.len().to_string());
        child.wait().await.unwrap();
    });
}

fn spawn_and_read(sim: &SimHandle, script: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
    let piped = |command: &mut Command| {
        command.stdout(Stdio::piped());
    };
    let mut child = spawn(sim, script, piped);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

/// Lines and an exit at one instant, in a `select!` that looks at the exit first.
async fn exit_or_lines(sim: SimHandle, script: &str, log: Log) {
    for _ in 0..4 {
        let (mut child, mut lines) = spawn_and_read(&sim, script);
        loop {
            tokio::select! {
                biased;
                status = child.wait() => {
                    log.say(status.unwrap().to_string());
                    break;
                }
                line = lines.next_line() => log.say(format!("{:?}", line.unwrap())),
            }
        }
    }
}

#[test]
fn a_line_and_an_exit_at_the_start_are_seen_in_the_same_order_each_time() {
    let _busy = Busy::new();
    assert_same(20, async |sim, log| {
        exit_or_lines(sim, "write \"one\\n\"; exit 0", log).await;
    });
}

#[test]
fn lines_and_an_exit_later_are_seen_in_the_same_order_each_time() {
    let _busy = Busy::new();
    assert_same(20, async |sim, log| {
        let script = "run 1s; write \"one\\n\"; write \"two\\n\"; exit 0";
        exit_or_lines(sim, script, log).await;
    });
}

/// A task that reads, a task that waits, and one channel for both.
#[test]
fn two_tasks_on_one_channel_tell_the_same_order_each_time() {
    let _busy = Busy::new();
    assert_same(20, async |sim, log| {
        for _ in 0..4 {
            let script = "run 1s; write \"one\\n\"; write \"two\\n\"; write \"three\\n\"; exit 0";
            let (mut child, mut lines) = spawn_and_read(&sim, script);
            let (sender, mut told) = tokio::sync::mpsc::channel(1);
            let for_exit = sender.clone();
            tokio::task::spawn_local(async move {
                while let Some(line) = lines.next_line().await.unwrap() {
                    sender.send(line).await.unwrap();
                }
            });
            tokio::task::spawn_local(async move {
                let status = child.wait().await.unwrap();
                for_exit.send(status.to_string()).await.unwrap();
            });
            while let Some(text) = told.recv().await {
                log.say(text);
            }
        }
    });
}

/// Six that write at one instant: in the order in which they were started, or another, but one.
#[test]
fn siblings_that_write_at_one_instant_write_in_the_same_order_each_time() {
    let sibling = |n| format!("start k{n} double-fork {{ run 1s; write \"{n}\"; exit 0 }}; ");
    let script = (1..=6).map(sibling).collect::<String>() + "run 2s; exit 0";
    assert_same(25, async |sim, log| {
        let mut child = spawn(&sim, &script, |command| {
            command.stdout(Stdio::piped());
        });
        let mut text = String::new();
        let mut out = child.stdout.take().unwrap();
        out.read_to_string(&mut text).await.unwrap();
        log.say(text);
        child.wait().await.unwrap();
    });
}

/// A write is a step, and so is a close, though the timeline has neither: who begins after it at that instant does so
/// when the code has read. Who only rests is no step, and those between begin at once.
#[rstest]
#[case::a_write("write \"a line\\n\"; stay", Some("a line"))]
#[case::a_close("close stdout; stay", None)]
fn who_begins_after_a_write_at_one_instant_begins_after_it_was_read(
    #[case] second: &str,
    #[case] read: Option<&str>,
) {
    assert_same(10, async |sim: SimHandle, log| {
        let scripts = [
            ("a", "stay"),
            ("b", second),
            ("c", "stay"),
            ("d", "write \"too late\\n\"; stay"),
        ];
        let mut children = scripts.map(|(name, script)| {
            let agent = sim.agent(name, Script::new().then_do(script).unwrap());
            let mut command = Command::from(agent.command());
            command.stdout(Stdio::piped()).kill_on_drop(true);
            command.spawn().unwrap()
        });
        let mut lines = BufReader::new(children[1].stdout.take().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), read);
        let last = &mut children[3];
        last.kill().await.unwrap();
        let mut text = String::new();
        let mut out = last.stdout.take().unwrap();
        out.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "");
        log.say("read in time");
    });
}
