//! The controllable child process of `supervise-harness`.

fn main() {}
