//! Backoff strategies: how long to wait before the next start.
