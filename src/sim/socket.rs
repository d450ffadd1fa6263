//! Unix sockets of other processes: which socket is at the other end, and whether a wait on one has a limit in time.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, getsockopt, recv, send, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::pidfd::open_pidfd;

/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h.
const BY_FAMILY: u16 = 20;

/// `NLM_F_REQUEST` of linux/netlink.h.
const REQUEST: u16 = 1;

/// `UDIAG_SHOW_PEER` of linux/unix_diag.h.
const SHOW_PEER: u32 = 4;

/// `UNIX_DIAG_PEER` of linux/unix_diag.h.
const PEER: u16 = 2;

/// The lengths of a message's header, of an answer's body and of an attribute's header, in bytes.
const HEADER: usize = 16;
const BODY: usize = 16;
const ATTRIBUTE: usize = 4;

/// The number of the socket behind a link of /proc/PID/fd.
pub(super) fn number_of(link: &str) -> Option<u32> {
    let number = link.strip_prefix("socket:[")?.strip_suffix(']')?;
    number.parse().ok()
}

/// The number of the unix socket that is connected to that one, by sock_diag(7). `None` if it is no unix socket, or if
/// no process has its peer.
pub(super) fn peer_of(number: u32) -> io::Result<Option<u32>> {
    let asked = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    send(asked.as_raw_fd(), &question(number), MsgFlags::empty())?;
    let mut answer = [0; 1024];
    let length = recv(asked.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    Ok(peer_in(&answer[..length]).filter(|peer| *peer != 0))
}

/// A `struct nlmsghdr` and a `struct unix_diag_req`.
fn question(number: u32) -> Vec<u8> {
    let mut body = Vec::new();
    // The family, no protocol, no padding; then sockets in all states.
    body.extend([libc::AF_UNIX.to_ne_bytes()[0], 0, 0, 0]);
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(number.to_ne_bytes());
    body.extend(SHOW_PEER.to_ne_bytes());
    // No cookie: any socket that has this number will do.
    body.extend([0xff; 8]);
    let mut message = Vec::new();
    message.extend(
        u32::try_from(HEADER + body.len())
            .unwrap_or(0)
            .to_ne_bytes(),
    );
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The peer that the attributes of an answer name. `None` if the answer is an error, such as that there is no such
/// socket.
fn peer_in(answer: &[u8]) -> Option<u32> {
    let short = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    if short(4)? != BY_FAMILY {
        return None;
    }
    let mut at = HEADER + BODY;
    loop {
        let (length, kind) = (usize::from(short(at)?), short(at + 2)?);
        if kind == PEER {
            let value = answer.get(at + ATTRIBUTE..at + ATTRIBUTE + 4)?;
            return Some(u32::from_ne_bytes(value.try_into().ok()?));
        }
        at += length.max(ATTRIBUTE).next_multiple_of(4);
    }
}

/// Whether a wait on that socket of a process ends by itself: `SO_RCVTIMEO` and `SO_SNDTIMEO` of socket(7). True if
/// that cannot be told.
pub(super) fn has_timeout(pid: u32, descriptor: u64) -> bool {
    let copied = i32::try_from(descriptor)
        .map_err(io::Error::other)
        .and_then(|descriptor| copy_of(pid, descriptor));
    let Ok(copied) = copied else {
        return true;
    };
    let none = TimeVal::zero();
    let receives = getsockopt(&copied, sockopt::ReceiveTimeout);
    let sends = getsockopt(&copied, sockopt::SendTimeout);
    receives != Ok(none) || sends != Ok(none)
}

/// A descriptor of this process for the open file behind another process's descriptor.
fn copy_of(pid: u32, descriptor: i32) -> io::Result<OwnedFd> {
    let pidfd = open_pidfd(pid)?;
    // SAFETY: pidfd_getfd(2) takes three numbers, and gives a new descriptor that nobody else has.
    let copied = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), descriptor, 0) };
    match i32::try_from(copied) {
        // SAFETY: it is open, and this is its only owner.
        Ok(copied) if copied >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(copied) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the descriptor of a process is that of a socket.
pub(super) fn is_socket(pid: u32, descriptor: u64) -> bool {
    let target = fs::read_link(format!("/proc/{pid}/fd/{descriptor}"));
    target.is_ok_and(|target| target.to_str().and_then(number_of).is_some())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::time::Duration;

    use super::*;

    fn number(socket: &impl AsRawFd) -> u32 {
        let link = format!("/proc/self/fd/{}", socket.as_raw_fd());
        number_of(fs::read_link(link).unwrap().to_str().unwrap()).unwrap()
    }

    #[test]
    fn the_two_of_a_pair_are_each_others_peers() {
        let (one, other) = UnixStream::pair().unwrap();
        assert_eq!(peer_of(number(&one)).unwrap(), Some(number(&other)));
        assert_eq!(peer_of(number(&other)).unwrap(), Some(number(&one)));
        let (one, other) = UnixDatagram::pair().unwrap();
        assert_eq!(peer_of(number(&one)).unwrap(), Some(number(&other)));
    }

    #[test]
    fn what_is_accepted_is_the_peer_of_who_connected() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let one = UnixStream::connect(folder.path().join("socket")).unwrap();
        // No process has accepted the connection yet.
        assert_eq!(peer_of(number(&one)).unwrap(), None);
        let (other, _) = listener.accept().unwrap();
        assert_eq!(peer_of(number(&one)).unwrap(), Some(number(&other)));
        assert_eq!(peer_of(number(&other)).unwrap(), Some(number(&one)));
        assert_eq!(peer_of(number(&listener)).unwrap(), None);
    }

    #[test]
    fn what_is_not_connected_or_no_unix_socket_has_no_peer() {
        let alone = UnixDatagram::unbound().unwrap();
        assert_eq!(peer_of(number(&alone)).unwrap(), None);
        let internet = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(peer_of(number(&internet)).unwrap(), None);
        let (one, other) = UnixStream::pair().unwrap();
        drop(other);
        assert_eq!(peer_of(number(&one)).unwrap(), None);
    }

    #[test]
    fn a_limit_in_time_shows() {
        let own = std::process::id();
        let (one, _other) = UnixStream::pair().unwrap();
        let descriptor = u64::try_from(one.as_raw_fd()).unwrap();
        assert!(is_socket(own, descriptor));
        assert!(!has_timeout(own, descriptor));
        one.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        assert!(has_timeout(own, descriptor));
        one.set_read_timeout(None).unwrap();
        one.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        assert!(has_timeout(own, descriptor));
        assert!(has_timeout(own, u64::MAX));
    }
}
