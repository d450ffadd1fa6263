//! The system call in which a thread is blocked, and the descriptors that it waits for.

use std::fs;

use nix::libc;

use crate::sim::children;

/// A system call in which a thread is blocked.
pub(super) struct Call {
    pub(super) number: libc::c_long,
    pub(super) arguments: [u64; 6],
}

/// The call in which the thread is blocked, by the thread's folder in /proc. `None` if it is not asleep, or cannot be
/// seen.
pub(super) fn blocked_in(task: &str) -> Option<Call> {
    if children::state(task)? != 'S' {
        return None;
    }
    let text = fs::read_to_string(format!("{task}/syscall")).ok()?;
    let mut words = text.split_whitespace();
    let number = words.next()?.parse().ok().filter(|number| *number >= 0)?;
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        *argument = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    }
    Some(Call { number, arguments })
}

/// Whether a timeout in milliseconds is −1. The argument is an int, in a register that is wider.
pub(super) fn is_forever(timeout: u64) -> bool {
    timeout & 0xffff_ffff == 0xffff_ffff
}

/// Whether the call is a poll(2) without a limit in time.
pub(super) fn is_poll(number: libc::c_long, call: &Call) -> bool {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_poll {
        return is_forever(call.arguments[2]);
    }
    number == libc::SYS_ppoll && call.arguments[2] == 0
}

/// The descriptors that the call polls: its `struct pollfd`s. `None` if they cannot be read.
pub(super) fn polled(pid: u32, address: u64, count: usize) -> Option<Vec<u64>> {
    use std::os::unix::fs::FileExt;
    let memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = vec![0; count.min(1024).checked_mul(8)?];
    memory.read_exact_at(&mut bytes, address).ok()?;
    let descriptors = bytes.chunks(8).map(|entry| {
        let number = i32::from_ne_bytes(entry[..4].try_into().ok()?);
        // The call does not look at a negative descriptor.
        Some(u64::try_from(number).ok())
    });
    let descriptors: Option<Vec<Option<u64>>> = descriptors.collect();
    (count <= 1024).then_some(descriptors?.into_iter().flatten().collect())
}

/// Whether the call is a select(2) without a limit in time.
pub(super) fn is_select(number: libc::c_long, call: &Call) -> bool {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_select {
        return call.arguments[4] == 0;
    }
    number == libc::SYS_pselect6 && call.arguments[4] == 0
}

/// The descriptors that the call selects from: its three sets, of which a null pointer is an empty one. `None` if they
/// cannot be read.
pub(super) fn selected(pid: u32, call: &Call) -> Option<Vec<u64>> {
    use std::os::unix::fs::FileExt;
    let memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let count = call.arguments[0] & 0xffff_ffff;
    // The kernel reads whole words.
    let words = usize::try_from(count.div_ceil(64)).ok()?;
    let mut all = Vec::new();
    for set in &call.arguments[1..4] {
        if *set == 0 || words > 1024 {
            continue;
        }
        let mut bytes = vec![0; words * 8];
        memory.read_exact_at(&mut bytes, *set).ok()?;
        let has = |descriptor: &u64| {
            let (byte, bit) = (descriptor / 8, descriptor % 8);
            // This is the byte order of this machine, the same on both targets: the lowest byte comes first.
            usize::try_from(byte).is_ok_and(|byte| bytes[byte] >> bit & 1 == 1)
        };
        all.extend((0..count).filter(has));
    }
    (words <= 1024).then_some(all)
}
