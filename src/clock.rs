//! Clocks: the real one, the paused one, and one moved by hand.
