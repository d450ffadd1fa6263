//! Locks and gates.

use std::fs::{self, File};

use agent_stub::Signal;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use rstest::rstest;

use crate::support::{Told, ended, told};

#[rstest]
fn holds_an_exclusive_lock_until_its_death(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    fs::write(&path, "owner").unwrap();
    let script = format!("lock {path:?}; write \"held\\n\"; stay");
    let mut first = told(how, &script);
    first.read_until("held\n");
    let file = File::open(&path).unwrap();
    let (_, refused) = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap_err();
    assert_eq!(refused, Errno::EWOULDBLOCK);

    let mut second = told(how, &script);
    assert_eq!(ended(second.end()), "exit 122");
    let held = format!("lock \"{}\": another process holds it", path.display());
    match &mut second.control {
        None => assert_eq!(second.errors(), format!("agent-stub: {held}\n")),
        Some(control) => {
            let quoted = agent_stub::Quoted::from(held.as_str());
            control.expect(&[&format!("error {quoted}")]);
        }
    }

    first.signal(Signal::KILL);
    assert_eq!(ended(first.end()), "die SIGKILL");
    let mut third = told(how, &script);
    third.read_until("held\n");
    if let Some(control) = &mut third.control {
        control.expect(&[&format!("locked \"{}\"", path.display())]);
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "owner");
}

#[rstest]
fn one_opening_of_a_gate_is_one_passage(
    #[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let mut stub = told(how, "gate a; gate a; gate b; exit 0");
    let control = stub.control.as_mut().unwrap();
    control.expect(&["gate \"a\""]);
    control.order("open \"b\"");
    assert_eq!(control.ping(), [""; 0]);
    control.order("open \"a\"");
    control.expect(&["gate \"a\""]);
    assert_eq!(control.ping(), [""; 0]);
    control.order("open \"a\"");
    // `b` was opened before it came to it.
    control.expect(&["gate \"b\"", "exiting 0"]);
}

#[rstest]
fn a_gate_may_be_opened_several_times_ahead(
    #[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let mut stub = told(how, "gate start; repeat 3 { gate g; beat }; exit 0");
    let control = stub.control.as_mut().unwrap();
    control.order("open \"g\"");
    control.order("open \"g\"");
    control.order("open \"start\"");
    control.expect(&[
        "gate \"start\"",
        "gate \"g\"",
        "beat",
        "gate \"g\"",
        "beat",
        "gate \"g\"",
    ]);
    assert_eq!(control.ping(), [""; 0]);
}

#[rstest]
fn waits_until_a_file_exists(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values(true, false)] is_there: bool,
) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("go");
    if is_there {
        fs::write(&file, "").unwrap();
    }
    let mut stub = told(how, &format!("write \"up\\n\"; gate file {file:?}; exit 6"));
    stub.read_until("up\n");
    if !is_there {
        if let Some(control) = &mut stub.control {
            control.expect(&["wrote stdout 3"]);
            assert_eq!(control.ping(), [""; 0]);
        }
        fs::write(&file, "").unwrap();
    }
    assert_eq!(ended(stub.end()), "exit 6");
}
