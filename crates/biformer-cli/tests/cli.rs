//! The real binary in a fresh directory: what it prints, what it writes, how it ends.
//!
//! The pictures are the drawn shapes, 32 × 32 and few, so that a run takes a second.

mod commands;
