//! Checkpoint files ⇄ state dicts ⇄ modules.
//!
//! A checkpoint is named by a path or by a `hub:` source ([`resolve`]), read into a [`StateDict`]
//! whatever its format ([`read_state_dict`]), put into a module under the names of the official
//! code ([`load_state_dict`], [`KeyStyle`]), and written as safetensors ([`write_safetensors`]).
//! Nothing from a file is trusted or executed.

mod apply;
mod flat;
mod format;
mod hub;
mod key_map;
mod load;
mod pytorch_file;
mod safetensors_file;
mod state_dict;

pub(crate) use apply::Names;
pub use apply::{KeyMismatch, keys_and_shapes, load_state_dict, state_dict};
pub(crate) use flat::{map_flat, visit_flat};
pub use hub::resolve;
pub use key_map::KeyStyle;
pub use load::{read_state_dict, read_state_dict_from};
pub(crate) use safetensors_file::{metadata_in, state_dict_in};
pub use safetensors_file::{read_metadata, write_safetensors, write_safetensors_half};
pub use state_dict::{StateDict, StateTensor};
