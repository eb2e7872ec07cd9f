//! `biformer export`

use biformer::Error;
use biformer::classification::{save_classifier, save_classifier_half};
use serde_json::json;

use super::{Done, load, print, shown};
use crate::args::ExportArgs;
use crate::device;

pub fn run(args: &ExportArgs) -> anyhow::Result<Done> {
    if args.output.extension().is_none_or(|extension| extension != "safetensors") {
        let reason = format!("`{}` must end in .safetensors", args.output.display());
        return Err(Error::option("output", reason).into());
    }
    let loaded = load(&args.checkpoint, &args.transform, &device::parse("cpu")?)?;
    let save = if args.half { save_classifier_half } else { save_classifier };
    save(&args.output, &loaded.model, &loaded.info)?;
    let line = json!({
        "model": loaded.info.model,
        "num_classes": loaded.info.classes.len(),
        "output": shown(&args.output),
    });
    print(line)?;
    Ok(Done::Well)
}
