//! Readiness and heartbeats, by every channel.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rstest::rstest;

use crate::support::{Told, alone, ended, inherit, read_all, told, told_with, unique};

#[rstest]
fn tells_the_control_connection(#[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told) {
    let mut stub = told(how, "ready; beat; beat; exit 0");
    let control = stub.control.as_mut().unwrap();
    control.expect(&["ready", "beat", "beat", "exiting 0"]);
}

#[rstest]
#[case("ready")]
#[case("beat")]
fn there_must_be_a_control_connection_to_tell(#[case] word: &str) {
    let mut stub = alone(&format!("{word}; exit 0"));
    assert_eq!(ended(stub.end()), "exit 71");
    assert_eq!(
        stub.errors(),
        format!("agent-stub: {word}: there is no control connection\n")
    );
}

#[rstest]
fn writes_a_newline_to_a_descriptor(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values("ready", "beat")] word: &str,
) {
    let (reader, writer) = std::io::pipe().unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&writer);
    let mut stub = told_with(how, &format!("{word} fd {number}; exit 0"), |command| {
        inherit(command, writer);
    });
    assert_eq!(ended(stub.end()), "exit 0");
    assert_eq!(read_all(reader), b"\n");
}

#[rstest]
fn notifies_as_systemd_has_it(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values(true, false)] is_abstract: bool,
) {
    let directory = tempfile::tempdir().unwrap();
    let (address, socket) = if is_abstract {
        let name = format!("stub-notify-{}-{}", std::process::id(), unique());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        (format!("@{name}").into(), UnixDatagram::bind_addr(&address))
    } else {
        let path = directory.path().join("notify");
        (path.clone().into_os_string(), UnixDatagram::bind(path))
    };
    let socket = socket.unwrap();
    let mut stub = told_with(how, "ready notify; beat notify; exit 0", |command| {
        command.env("NOTIFY_SOCKET", address);
    });
    assert_eq!(ended(stub.end()), "exit 0");
    socket.set_nonblocking(true).unwrap();
    let receive = || {
        let mut datagram = [0; 64];
        let length = socket.recv(&mut datagram).unwrap();
        String::from_utf8(datagram[..length].to_vec()).unwrap()
    };
    assert_eq!([receive(), receive()], ["READY=1", "WATCHDOG=1"]);
}

#[test]
fn without_a_socket_to_notify_it_cannot_go_on() {
    let mut stub = alone("ready notify; exit 0");
    assert_eq!(ended(stub.end()), "exit 71");
    assert_eq!(
        stub.errors(),
        "agent-stub: ready notify: NOTIFY_SOCKET is not set\n"
    );
}

#[rstest]
fn adds_a_line_to_a_file(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a file");
    let script = format!("ready file {file:?}; beat file {file:?}; exit 0");
    for expected in ["ready\nbeat\n", "ready\nbeat\nready\nbeat\n"] {
        assert_eq!(ended(told(how, &script).end()), "exit 0");
        assert_eq!(fs::read_to_string(&file).unwrap(), expected);
    }
}

#[rstest]
fn gets_ready_late_or_never(#[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told) {
    let mut stub = told(how, "gate late; ready; stay");
    let control = stub.control.as_mut().unwrap();
    control.expect(&["gate \"late\""]);
    assert_eq!(control.ping(), [""; 0]);
    control.order("open \"late\"");
    control.expect(&["ready"]);
}

#[rstest]
fn beats_until_it_is_told_to_stop(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let raw = std::os::fd::AsRawFd::as_raw_fd(&writer);
    let script = format!("on SIGUSR1 {{ exit 0 }}; forever {{ beat fd {raw}; run 1ms }}");
    let mut stub = told_with(how, &script, |command| {
        inherit(command, writer);
    });
    let mut beats = [0; 20];
    std::io::Read::read_exact(&mut reader, &mut beats).unwrap();
    assert_eq!(beats, [b'\n'; 20]);
    stub.signal(agent_stub::Signal::USR1);
    assert_eq!(ended(stub.end()), "exit 0");
}
