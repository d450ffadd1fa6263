//! What a stub costs.

use crate::support::{Stub, Told};

/// The peak of what a stub keeps in memory: 2 MiB.
const PEAK_KIB: u64 = 2048;

#[test]
fn a_stub_peaks_at_2_mib_whatever_it_did() {
    let mut stub = Stub::idle(Told::Inherited);
    stub.order("do hygiene; on SIGTERM count; repeat 20 { start a { exit 0 } }");
    stub.order(&format!("do #{}", "x".repeat(60_000)));
    stub.order(&"x".repeat(500_000));
    stub.ping();
    let status = std::fs::read_to_string(format!("/proc/{}/status", stub.process.pid())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kib: u64 = peak.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    println!("peak {kib} KiB");
    assert!(kib <= PEAK_KIB, "{kib} KiB");
}
