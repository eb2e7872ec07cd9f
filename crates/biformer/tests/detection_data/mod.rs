mod coco;
mod files;
mod loader;
mod masks;
mod scenes;
mod scores;
mod transform;
