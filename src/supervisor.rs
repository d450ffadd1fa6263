//! Keeping an agent running over whole lifetimes.
