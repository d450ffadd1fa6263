//! Descendants: they are found whether their parents live or have ended.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use supervise_harness::leaks::{Guard, Owner};

use super::busy_loop::{beside_a_busy_loop, let_starve};
use super::{end, has_ended, only, pidfd, stub};

/// A child that its test does end. Standard output is read up to the first hygiene report.
fn start(command: &mut Command) -> (Child, u32) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a stub");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let mut pid = None;
    for line in output.lines() {
        let line = line.expect("UTF-8");
        if let Some(ids) = line.strip_prefix("ids ") {
            pid = ids.split(' ').next().and_then(|pid| pid.parse().ok());
        }
        if line == "end" {
            break;
        }
    }
    (child, pid.expect("a report with ids"))
}

#[test]
fn an_orphan_is_found_by_its_mark_in_the_environment() {
    let guard = Guard::new();
    let mut command = stub("start helper double-fork { hygiene; stay }; stay");
    let (mut child, orphan) = start(guard.mark_command(&mut command));
    end(&mut child);
    let watch = pidfd(orphan);
    let leaks = guard.check().unwrap_err();
    let found = only(&leaks);
    assert_eq!(found.pid, orphan);
    assert_eq!(found.descendant.as_deref(), Some("helper"));
    assert!(
        matches!(found.owner, Owner::Ended { of: Some(_) }),
        "{leaks}"
    );
    // Who led its session is gone, and the agent is named.
    let expected =
        "descendant `helper`), running, orphan: its parent has ended; killed by the guard";
    assert!(leaks.to_string().contains(expected), "{leaks}");
    assert!(has_ended(&watch));
}

#[test]
fn an_orphan_s_group_is_told_by_who_leads_it() {
    for ends in [false, true] {
        let mut guard = Guard::new();
        let mut command = Command::new("sh");
        command.args(["-c", "(sleep 1000 &); echo; read _"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.process_group(0).spawn().unwrap();
        let mut line = [0];
        child.stdout.take().unwrap().read_exact(&mut line).unwrap();
        guard.watch(child.id());
        let mut leader = "`sh`".to_owned();
        if ends {
            end(&mut child);
            leader = format!("process {}, which has ended", child.id());
        }
        let leaks = guard.check().unwrap_err().to_string();
        // It may be the shell's fork still.
        let expected = format!(
            ", running, orphan: its parent has ended; its process group or session is that of {leader};"
        );
        assert!(leaks.contains(&expected), "{leaks}");
    }
}

#[test]
fn an_orphan_without_environment_is_found_by_its_mark_in_the_arguments() {
    let guard = Guard::new();
    let mut command = stub("start helper double-fork { hygiene; stay }; stay");
    let id = format!("worker {}", guard.mark().1);
    let (mut child, orphan) = start(command.env_clear().args(["--id", &id]));
    end(&mut child);
    let watch = pidfd(orphan);
    let leaks = guard.check().unwrap_err();
    assert_eq!(only(&leaks).pid, orphan);
    assert!(has_ended(&watch));
}

#[test]
fn an_orphan_without_a_mark_is_found_by_the_group_of_a_watched_child() {
    let mut guard = Guard::new();
    let mut command = stub("start helper same-group { hygiene; stay }; stay");
    let (mut child, orphan) = start(command.env_clear().process_group(0));
    guard.watch(child.id());
    end(&mut child);
    let watch = pidfd(orphan);
    let leaks = guard.check().unwrap_err();
    let found = only(&leaks);
    assert_eq!(found.pid, orphan);
    assert_eq!(
        found.owner,
        Owner::Ended {
            of: Some(child.id())
        }
    );
    assert!(has_ended(&watch));
}

#[test]
fn a_grandchild_in_a_session_of_its_own_is_found_below_its_parent() {
    let guard = Guard::new();
    let mut command = stub("start helper own-session { hygiene; stay }; stay");
    let (child, grandchild) = start(command.env_clear().args(["--id", "worker"]));
    let watches = [pidfd(child.id()), pidfd(grandchild)];
    let leaks = guard.check().unwrap_err();
    let [first, second] = leaks.processes() else {
        panic!("expected two processes: {leaks}")
    };
    assert_eq!((first.pid, second.pid), (child.id(), grandchild));
    assert_eq!(second.agent.as_deref(), Some("worker"));
    assert_eq!(second.descendant.as_deref(), Some("helper"));
    assert_eq!(second.owner, Owner::Parent);
    let line = format!(
        "process {grandchild} agent-stub (agent `worker`, descendant `helper`), running, should \
         have been ended by its parent, process {} agent-stub; killed by the guard",
        child.id()
    );
    assert!(leaks.to_string().contains(&line), "{leaks}");
    assert!(watches.iter().all(has_ended));
}

#[test]
fn an_orphan_that_was_sent_sigkill_is_none_also_before_it_has_ended() {
    beside_a_busy_loop(|| {
        for _ in 0..3 {
            let guard = Guard::new();
            let mut command = stub("start helper double-fork { hygiene; stay }; stay");
            let (mut child, orphan) = start(guard.mark_command(&mut command));
            end(&mut child);
            let orphan = i32::try_from(orphan).unwrap();
            let_starve(orphan);
            kill(Pid::from_raw(orphan), Signal::SIGKILL).unwrap();
            guard.check().unwrap();
        }
    });
}

#[test]
fn a_child_that_forks_without_end_does_not_escape() {
    let guard = Guard::new();
    // Not the guard's: it has nothing but the tree to go by.
    let id = format!("forks-{}", std::process::id());
    let mut command = stub(
        "start first { hygiene; stay }; forever { start more own-session quiet { run 100ms } }",
    );
    let (child, _) = start(command.env_clear().args(["--id", &id]));
    let watch = pidfd(child.id());
    let leaks = guard.check().unwrap_err();
    let pids: Vec<u32> = leaks.processes().iter().map(|found| found.pid).collect();
    assert!(pids.contains(&child.id()), "{leaks}");
    assert!(has_ended(&watch));
    assert_eq!(with_argument(&id), Vec::<u32>::new(), "{leaks}");
}

/// The processes that have the text in their arguments.
fn with_argument(text: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(text)
    })
    .collect()
}
