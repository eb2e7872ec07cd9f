mod files;
mod folder;
mod inference;
mod loader;
mod pictures;
mod transform;
