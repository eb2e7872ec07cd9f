//! Names what is where in a picture: boxes of a detector's checkpoint, best first.
//!
//! ```text
//! cargo run --release --example detect -- runs/train/best.safetensors picture.jpg
//! ```
//!
//! The checkpoint is a `.safetensors` file, mmdetection's `.pth` file or `hub:OWNER/NAME`.

use std::process::ExitCode;
use std::time::Instant;

use biformer::data::decode;
use biformer::detection::{Inference, LoadDenseOptions, detect, load_detector};
use biformer::weights::resolve;
use burn::tensor::Device;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, picture] = arguments.as_slice() else {
        eprintln!("usage: detect CHECKPOINT PICTURE");
        return ExitCode::from(2);
    };
    match print_boxes(checkpoint, picture) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_boxes(checkpoint: &str, picture: &str) -> biformer::Result<()> {
    let device = Device::default();
    let options = LoadDenseOptions::default();
    let loaded = load_detector(&resolve(checkpoint)?, &options, &device)?;
    let model = loaded.model.for_inference();
    let image = decode(picture.as_ref())?;
    let start = Instant::now();
    let found = detect(&model, &image, &Inference::new(loaded.info.resize), &device)?;
    let seconds = start.elapsed().as_secs_f64();
    for thing in found {
        let [x1, y1, x2, y2] = thing.bbox.map(|edge| edge.round());
        let class = &loaded.info.classes[thing.label];
        println!("{:>6.2} %  {class}  {x1} {y1} {x2} {y2}", 100.0 * thing.score);
    }
    eprintln!("{seconds:.2} s");
    Ok(())
}
