//! A busy loop on one processor, beside which a process or a thread gets next to no time.

use std::io;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use nix::libc;

/// Runs `body` while the first processor is busy.
pub(super) fn beside_a_busy_loop(body: impl FnOnce()) {
    let busy = Arc::new(AtomicBool::new(true));
    let goes_on = Arc::clone(&busy);
    let (up, is_up) = mpsc::channel();
    let spinner = thread::spawn(move || {
        to_first_processor(0);
        up.send(()).unwrap();
        while goes_on.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    });
    is_up.recv().unwrap();
    let result = panic::catch_unwind(panic::AssertUnwindSafe(body));
    busy.store(false, Ordering::Relaxed);
    spinner.join().unwrap();
    if let Err(failure) = result {
        panic::resume_unwind(failure);
    }
}

/// Leaves a thread, or this one for 0, what the busy loop leaves it: next to nothing.
pub(super) fn let_starve(thread: libc::pid_t) {
    to_first_processor(thread);
    // SAFETY: sched_param is a number.
    let idle: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the parameter is valid for reads while the call lasts.
    let set = unsafe { libc::sched_setscheduler(thread, libc::SCHED_IDLE, &raw const idle) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// Binds a thread, or this one for 0, to the first processor that it may run on.
fn to_first_processor(thread: libc::pid_t) {
    // SAFETY: cpu_set_t is plain bits, no processor in none of them.
    let (mut all, mut one): (libc::cpu_set_t, libc::cpu_set_t) = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: the sets are valid for the size given while each call lasts, and the processors' numbers
    // are within them.
    unsafe {
        assert_eq!(libc::sched_getaffinity(0, size, &raw mut all), 0);
        let limit = usize::try_from(libc::CPU_SETSIZE).unwrap();
        let first = (0..limit).find(|cpu| libc::CPU_ISSET(*cpu, &all)).unwrap();
        libc::CPU_SET(first, &mut one);
        assert_eq!(libc::sched_setaffinity(thread, size, &raw const one), 0);
    }
}
