//! A child process behind its pidfd: status, signals, reaping.
