//! The environment variables whose names start with `SUPERVISE_`.

/// All variables that start with `SUPERVISE_` and that the stub or the library knows. Any other is
/// a mistake, which both report.
pub const VARIABLES: &[&str] = &[
    "SUPERVISE_AGENT_CLOCK",
    "SUPERVISE_AGENT_CONTROL",
    "SUPERVISE_AGENT_FD",
    "SUPERVISE_AGENT_ID",
    "SUPERVISE_AGENT_LIFETIME",
    "SUPERVISE_AGENT_RUNTIME_DIR",
    "SUPERVISE_AGENT_STUB",
    "SUPERVISE_AGENT_STUB_SKIP_BUILD",
    "SUPERVISE_LEAK_MARK",
    "SUPERVISE_SEED",
    "SUPERVISE_WATCHDOG",
];
