//! Agreement with tensors recorded from the official implementation.
//!
//! `BIFORMER_FIXTURES` names the folder; without it the full set beside the workspace is used
//! if it is there, else the small set in `fixtures/`.

mod parity;
