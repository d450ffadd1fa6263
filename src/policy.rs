//! Restart decisions: pure, no clock, no I/O.
