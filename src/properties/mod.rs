//! Ready-made checks and proptest strategies.
