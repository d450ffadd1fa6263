//! Descendants: where they are placed, what they hold, how they end.

use std::os::fd::AsFd;
use std::time::Duration;

use agent_stub::Signal;
use agent_stub::protocol::Report;
use rstest::rstest;

use crate::support::{BOUND, Pidfd, Start, Stub, Told, ended, told};

#[test]
fn a_descendant_of_an_inherited_socket_lives_by_the_real_clock() {
    let mut stub = Stub::waiting("start a { run 1ms; write \"up\"; stay }");
    let pid = stub.started();
    stub.expect(&["idle"]);
    stub.process.read_until("up");
    assert!(!Pidfd::open(pid).unwrap().ends_within(Duration::ZERO));
}

#[test]
fn a_descendant_of_a_listening_socket_asks_the_harness_too() {
    let script = "start a { run 7ns; exit 3 }; stay";
    let start = Start::new(Told::Path).args(["--clock", "harness", "--script", script]);
    let mut stub = start.spawn();
    let pid = stub.started();
    stub.expect(&["rest 0"]);
    let (mut descendant, hello) = stub.next_connection();
    assert!(
        matches!(&hello, Report::Hello { pid: p, descendant: Some(of), .. } if *p == pid && of.name.0 == b"a"),
        "{hello}"
    );
    descendant.expect(&["wait 1 7", "rest 0"]);
    descendant.order("go 1");
    descendant.expect(&["exiting 3"]);
    stub.expect(&[&format!("reaped {pid} 768"), "rest 0"]);
}

#[test]
fn freezes_and_forks_twice_where_sigchld_is_ignored() {
    let mut stub = Stub::script(
        "start b { stay }; on SIGCHLD ignore; freeze; start a double-fork { stay }; exit 0",
    );
    stub.started();
    stub.expect(&["freezing"]);
    crate::freezing::wait_until_stopped(stub.process.pid());
    stub.process.signal(agent_stub::Signal::CONT);
    stub.expect(&["thawed", "started 2 - \"a\"", "exiting 0"]);
    assert_eq!(ended(stub.process.end()), "exit 0");
}

/// The process group and the session of a process, as in proc(5).
fn group_and_session(pid: u32) -> (u32, u32) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

/// The number that a descendant wrote to its file, once it is whole.
#[track_caller]
fn written_ids(stub: &mut crate::support::Owned) -> Vec<u32> {
    let line = stub.read_until("end\n");
    let ids = line.lines().find_map(|line| line.strip_prefix("ids "));
    let ids = ids.expect("ids").split(' ');
    ids.map(|id| id.parse().unwrap()).collect()
}

#[rstest]
fn a_descendant_is_placed_where_it_was_told(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values("", "same-group", "own-group", "own-session", "double-fork")] placement: &str,
) {
    let script = format!("start a {placement} {{ hygiene stdout; exit 0 }}; stay");
    let mut stub = told(how, &script);
    let [pid, ppid, pgid, sid] = written_ids(&mut stub)[..] else {
        panic!("four ids")
    };
    let parent = stub.pid();
    let (parent_group, parent_session) = group_and_session(parent);
    assert_ne!(pid, parent);
    match placement {
        "" | "same-group" => assert_eq!((ppid, pgid, sid), (parent, parent_group, parent_session)),
        "own-group" => assert_eq!((ppid, pgid, sid), (parent, pid, parent_session)),
        "own-session" => assert_eq!((ppid, pgid, sid), (parent, pid, pid)),
        // The session leader was the middle process, which is gone.
        _ => {
            assert!(
                ppid != parent && sid != parent_session && sid != pid,
                "{ppid} {sid}"
            );
            assert_eq!(pgid, sid);
        }
    }
    if let Some(control) = &mut stub.control {
        let number = if placement == "double-fork" {
            "-".to_owned()
        } else {
            pid.to_string()
        };
        control.until(&format!("started 1 {number} \"a\""));
        if placement != "double-fork" {
            control.expect(&[&format!("reaped {pid} 0")]);
        }
    }
}

#[rstest]
fn a_descendant_holds_standard_output_or_not(
    #[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values("", "hold", "quiet")] output: &str,
) {
    let mut stub = told(
        how,
        &format!("start a {output} own-session {{ stay }}; exit 0"),
    );
    let pid = match stub.control.as_mut().unwrap().next() {
        Report::Started { pid: Some(pid), .. } => pid,
        other => panic!("{other}"),
    };
    let descendant = Pidfd::open(pid).unwrap();
    assert_eq!(ended(stub.end()), "exit 0");
    let stdout = stub.process.0.stdout.take().unwrap();
    // What another test forks holds a copy until its exec, so that the end may take a moment to show.
    let bound = if output == "quiet" {
        BOUND
    } else {
        Duration::ZERO
    };
    let ends = crate::support::readable_within(stdout.as_fd(), bound);
    assert_eq!(ends, output == "quiet");
    // It outlives its parent, and ends with the control connection.
    if how == Told::Inherited {
        assert!(!descendant.ends_within(Duration::ZERO));
        stub.control = None;
        assert!(descendant.ends_within(BOUND));
        assert_eq!(crate::support::read_all(stdout), b"");
    } else {
        descendant.kill();
        assert!(descendant.ends_within(BOUND));
    }
}

#[rstest]
fn a_quiet_descendant_has_its_streams_on_dev_null(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report");
    let done = directory.path().join("done");
    let script = format!(
        "start a quiet {{ write \"lost\"; hygiene file {file:?}; ready file {done:?}; exit 0 }}; gate file {done:?}; exit 0"
    );
    let mut stub = told(how, &script);
    assert_eq!(ended(stub.end()), "exit 0");
    assert_eq!(stub.rest(), "");
    let report = std::fs::read_to_string(file).unwrap();
    for stream in 0..3 {
        let line = format!("fd {stream} \"/dev/null\"");
        assert!(report.lines().any(|l| l == line), "{report}");
    }
}

#[rstest]
fn a_descendant_ignores_sigterm_when_told(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let script = "start a { on SIGTERM ignore; on SIGUSR1 { write \"alive\\n\"; exit 0 }; hygiene stdout; stay }; stay";
    let mut stub = told(how, script);
    let pid = written_ids(&mut stub)[0];
    let descendant = Pidfd::open(pid).unwrap();
    crate::support::send(pid, Signal::TERM);
    crate::support::send(pid, Signal::USR1);
    stub.read_until("alive\n");
    assert!(descendant.ends_within(BOUND));
}

#[rstest]
fn a_descendant_dies_as_it_is_told_and_is_reaped(
    #[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let mut stub = told(how, "start a { die SIGKILL }; start b { stay }; stay");
    let control = stub.control.as_mut().unwrap();
    let mut pids = Vec::new();
    let mut reaped = Vec::new();
    while pids.len() < 2 || reaped.is_empty() {
        match control.next() {
            Report::Started { pid: Some(pid), .. } => pids.push(pid),
            Report::Reaped { pid, status } => reaped.push((pid, status)),
            other => panic!("{other}"),
        }
    }
    assert_eq!(reaped, [(pids[0], Some(9))]);
    assert!(Pidfd::open(pids[0]).is_none(), "a zombie is left");
}

#[rstest]
fn descendants_end_with_control_wherever_they_are(
    #[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let placements = ["same-group", "own-group", "own-session", "double-fork"];
    let script: String = placements
        .iter()
        .map(|placement| format!("start {placement} {placement} {{ hygiene stdout; stay }}; "))
        .collect();
    let mut stub = told(how, &format!("{script} stay"));
    let descendants: Vec<Pidfd> = placements
        .iter()
        .map(|_| Pidfd::open(written_ids(&mut stub)[0]).unwrap())
        .collect();
    stub.control = None;
    drop(stub.address.take());
    assert_eq!(ended(stub.end()), "exit 123");
    for (descendant, placement) in descendants.iter().zip(placements) {
        assert!(descendant.ends_within(BOUND), "{placement}");
    }
}

#[test]
fn descendants_inherit_what_is_left_of_the_lifetime() {
    // real-time: the lifetime is one of real time.
    let mut command = crate::support::program();
    command.args([
        "--lifetime",
        "300ms",
        "--script",
        "start a own-session { hygiene stdout; stay }; exit 0",
    ]);
    let mut stub = crate::support::Owned(command.spawn().unwrap());
    let descendant = Pidfd::open(written_ids(&mut stub)[0]).unwrap();
    assert_eq!(ended(stub.end()), "exit 0");
    assert!(descendant.ends_within(BOUND));
    assert_eq!(stub.errors(), "agent-stub: the lifetime is over\n");
}

/// The limit of the grammar is the kernel's.
#[test]
fn the_longest_script_of_a_descendant_is_started() {
    let mut stub = Stub::idle(Told::Inherited);
    let text = "x".repeat(131_071 - "write \"\"; exit 3".len());
    stub.order(&format!(
        "do start child quiet {{ write \"{text}\"; exit 3 }}"
    ));
    let pid = stub.started();
    let mut then = [stub.next(), stub.next()].map(|report| report.to_string());
    then.sort();
    assert_eq!(then, ["idle".to_owned(), format!("reaped {pid} 768")]);
}
