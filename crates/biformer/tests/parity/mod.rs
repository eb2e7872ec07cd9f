mod attention;
mod checkpoints;
mod fixtures;
mod images;
mod models;
mod segmentation;
mod training;
