//! In which order orders are obeyed, signals reported and pings answered.

use crate::support::{Start, Stub, Told};

#[test]
fn a_ping_is_answered_only_after_the_last_pass_of_a_repeat() {
    for _ in 0..50 {
        let mut stub = Stub::idle(Told::Inherited);
        stub.order("do repeat 5 { beat }\nping 1");
        stub.expect(&["beat"; 5]);
        stub.expect(&["idle", "pong 1"]);
    }
}

#[test]
fn a_ping_is_answered_only_after_a_long_write() {
    let mut start = Start::new(Told::Inherited);
    start.command.stdout(std::process::Stdio::null());
    let mut stub = start.spawn();
    stub.expect(&["idle"]);
    stub.order("do write 4MiB\nping 1");
    stub.expect(&["wrote stdout 4194304", "idle", "pong 1"]);
}
