//! Processes that are no agents and wait on unix sockets.

use std::process::Stdio;

use rstest::rstest;
use supervise_harness::SimHandle;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::process::Command;
use tokio::time::{Duration, sleep};

use super::shells::{read_lines, talker};
use super::{Busy, assert_same};

fn perl(text: &str) -> Command {
    let mut perl = Command::new("perl");
    perl.args(["-MSocket", "-MIO::Socket::UNIX", "-e", text])
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    perl
}

/// As of a supervisor that gives its child a socket for its output.
#[rstest]
#[case::in_read("sysread($p, $_, 99)")]
#[case::in_recv("defined(recv($p, $_, 99, 0)) && length($_)")]
#[case::in_select(
    "do { vec($set, fileno($p), 1) = 1; select($r = $set, undef, undef, undef); sysread($p, $_, 99) }"
)]
fn who_reads_a_socket_that_an_agent_writes_to_is_at_rest(#[case] read: &str) {
    let _busy = Busy::new();
    assert_same(10, async |sim: SimHandle, log| {
        let text = format!(
            "$| = 1; socketpair($p, $c, AF_UNIX, SOCK_STREAM, 0); \
             if (!fork()) {{ close($p); open(STDOUT, '>&', $c); exec(@ARGV) }} \
             close($c); print while {read}; wait; print $? >> 8, \"\\n\""
        );
        let agent = talker(&sim);
        let mut perl = perl(&text);
        perl.arg(agent.program()).args(agent.args());
        read_lines(perl, &sim, &log).await;
        assert_eq!(log.lines(), ["one 1s", "two 2s", "3 2s"]);
    });
}

/// As of a worker of a pool, which the pool sends its work.
#[test]
fn a_worker_that_waits_for_work_on_a_socket_of_the_code_under_test_is_at_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _busy = Busy::new();
    assert_same(10, async |sim: SimHandle, log| {
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let text = "$s = IO::Socket::UNIX->new($ARGV[0]); \
                    while (sysread($s, $_, 99)) { syswrite($s, uc) }";
        let mut child = perl(text).arg(&path).spawn().unwrap();
        let (mut worker, _) = listener.accept().await.unwrap();
        for work in ["one", "two"] {
            sleep(Duration::from_secs(60)).await;
            worker.write_all(work.as_bytes()).await.unwrap();
            let mut done = [0; 3];
            worker.read_exact(&mut done).await.unwrap();
            let done = String::from_utf8_lossy(&done);
            log.say(format!("{done} {:?}", sim.now().since_origin()));
        }
        drop(worker);
        assert!(child.wait().await.unwrap().success());
        assert_eq!(log.lines(), ["ONE 60s", "TWO 120s"]);
    });
}

/// real-time: the kernel ends its wait after 20 ms, and time stands still until then.
#[test]
fn a_wait_on_a_socket_that_ends_by_itself_holds_time() {
    assert_same(5, async |sim: SimHandle, log| {
        let text = "$| = 1; socketpair($p, $c, AF_UNIX, SOCK_STREAM, 0); \
                    setsockopt($p, SOL_SOCKET, SO_RCVTIMEO, pack('l!l!', 0, 20000)); \
                    recv($p, $_, 99, 0); print \"over\\n\"; recv($p, $_, 99, 0)";
        let mut child = perl(text).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        tokio::select! { biased;
            line = lines.next_line() => log.say(format!("{line:?}")),
            () = sleep(Duration::from_secs(60)) => log.say("late"),
        }
        child.wait().await.unwrap();
        log.say(format!("{:?}", sim.now().since_origin()));
        assert_eq!(log.lines(), ["Ok(Some(\"over\"))", "0ns"]);
    });
}
