mod attention;
mod checkpoints;
mod fixtures;
mod images;
mod metric_miou;
mod models;
mod segmentation;
mod training;
