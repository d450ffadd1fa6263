//! A process that speaks to the control connection what a test tells it to.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::{Command, Stdio, id};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use supervise_harness::Agent;

const ADDRESS: &str = "FAULTS_FAKE_ADDRESS";
const STEPS: &str = "FAULTS_FAKE_STEPS";

/// The address of the sim's control server.
pub(super) fn address(agent: &Agent) -> String {
    let args = agent.args();
    let at = args.iter().position(|arg| arg == "--control").unwrap();
    args[at + 1].to_str().unwrap().to_owned()
}

pub(super) fn connect(address: &str) -> UnixStream {
    let name = address.strip_prefix('@').unwrap();
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap()
}

/// A process that takes the steps, then ends:
///
/// - `connect`: makes a connection
/// - `say TEXT`: says that on the last one, with its process id for `PID` and line ends for `|`
/// - `long BYTES`, `bytes`: says a line of that length, one that is not UTF-8
/// - `close`: closes the last one
/// - `wait`: until one of them is closed at the other end
/// - `freeze`: stops itself
pub(super) fn agent(address: &str, steps: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "faults::fake::a_fake_agent", "--nocapture"])
        .arg("--test-threads=1")
        .env(ADDRESS, address)
        .env(STEPS, steps.join(";"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Not a test: what [`agent`] runs.
#[test]
fn a_fake_agent() {
    let (Ok(address), Ok(steps)) = (std::env::var(ADDRESS), std::env::var(STEPS)) else {
        return;
    };
    let mut connections: Vec<UnixStream> = Vec::new();
    for step in steps.split(';') {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        if verb == "connect" {
            connections.push(connect(&address));
            continue;
        }
        let last = connections.last_mut();
        match verb {
            "say" => {
                let text = rest.replace("PID", &id().to_string()).replace('|', "\n");
                last.unwrap().write_all(text.as_bytes()).unwrap();
            }
            "long" => {
                let mut text = vec![b'x'; rest.parse().unwrap()];
                text.push(b'\n');
                last.unwrap().write_all(&text).unwrap();
            }
            "bytes" => last.unwrap().write_all(b"\xff\xfe\n").unwrap(),
            "close" => drop(connections.pop()),
            // Which of two says hello first is chance, and so is which one is closed.
            "wait" => {
                let all = connections.iter();
                let mut fds: Vec<_> = all
                    .map(|connection| PollFd::new(connection.as_fd(), PollFlags::POLLIN))
                    .collect();
                while poll(&mut fds, PollTimeout::NONE).is_err() {}
            }
            "freeze" => nix::sys::signal::raise(nix::sys::signal::SIGSTOP).unwrap(),
            _ => panic!("{step}"),
        }
    }
}
