//! What layers must know of a batch that several processes share.
//!
//! Layers see the pictures of one process. Two of them look farther: stochastic depth draws a
//! number for each picture of the whole batch, and batch norm may take its statistics from all
//! of them. A `forward` has no place for that beside its tensor, and all of it lies between the
//! layers and the training step: so it is kept for the time of a forward pass, for the thread
//! that runs it.

use std::cell::RefCell;
use std::rc::Rc;

use biformer_ops::Reducer;

/// The part of a batch that this process has.
#[derive(Clone, Debug)]
pub struct BatchPart {
    /// Places of the pictures in the whole batch.
    pub places: Vec<usize>,
    /// Pictures of the whole batch.
    pub of: usize,
    /// Pictures of the whole batch that could be read.
    pub readable: usize,
    /// Whether the pictures stand for none, so that statistics leave them out: a process without a
    /// readable picture must still take part in the sums of the others.
    pub is_empty: bool,
    /// The sum over processes, if batch norm takes its statistics from all of them.
    pub sync_bn: Option<Reducer>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<BatchPart>>> = const { RefCell::new(None) };
}

/// Runs a forward pass of `part`; `None` is a batch that this process has alone.
pub fn with_batch_part<R>(part: Option<BatchPart>, forward: impl FnOnce() -> R) -> R {
    /// Ends the part, also if the pass panics.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            CURRENT.set(None);
        }
    }
    CURRENT.set(part.map(Rc::new));
    let _end = End;
    forward()
}

/// The part of the batch that goes forward.
pub(super) fn batch_part() -> Option<Rc<BatchPart>> {
    CURRENT.with_borrow(Clone::clone)
}
