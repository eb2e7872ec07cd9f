//! Names what is in a picture: the five best classes of a checkpoint.
//!
//! ```text
//! cargo run --release --example predict -- runs/demo/best.safetensors picture.png
//! ```
//!
//! The checkpoint is a `.safetensors` file, an official `.pth` file or `hub:OWNER/NAME`.

use std::process::ExitCode;

use biformer::classification::{LoadOptions, load_classifier, predict};
use biformer::data::decode;
use biformer::weights::resolve;
use burn::tensor::Device;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, picture] = arguments.as_slice() else {
        eprintln!("usage: predict CHECKPOINT PICTURE");
        return ExitCode::from(2);
    };
    match print_best_classes(checkpoint, picture) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_best_classes(checkpoint: &str, picture: &str) -> biformer::Result<()> {
    let device = Device::default();
    let loaded = load_classifier(&resolve(checkpoint)?, &LoadOptions::default(), &device)?;
    let loaded = loaded.for_inference();
    let image = decode(picture.as_ref())?;
    let best = predict(&loaded.model, &[image], &loaded.info.transform, 5, &device);
    for prediction in &best[0] {
        let class = &loaded.info.classes[prediction.class];
        println!("{:>6.2} %  {class}", 100.0 * prediction.probability);
    }
    Ok(())
}
