//! Recipes side by side: from generated pictures to a table, and how it goes on.

use std::fs;
use std::path::Path;

use biformer::data::decode;

use super::{Folder, assert_keys, names};

/// Of the recipes that ship, with narrow models.
fn write_recipes(folder: &Folder) {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    for mechanism in ["shifted_window", "criss_cross"] {
        let file = recipes.join(format!("stl_{mechanism}_in1k.toml"));
        let text = fs::read_to_string(file).expect("a recipe");
        let wide = format!("model = \"stl_{mechanism}\"");
        let narrow = text.replace(&wide, &format!("model = \"stl_{mechanism}_nano\""));
        assert_ne!(narrow, text);
        folder.write(&format!("{mechanism}.toml"), narrow);
    }
}

#[test]
fn recipes_are_compared_and_what_is_done_is_not_done_again() {
    let folder = Folder::with_pictures();
    write_recipes(&folder);
    let compare = "compare shifted_window.toml criss_cross.toml --data data --img-size 32 --epochs 1 \
                   --warmup-epochs 0 --cooldown-epochs 0 --batch-size 8 --grad-accum-steps 1 \
                   --bench-batch-size 1 --output compared";
    let ended = folder.run(compare).expect_code(0);
    assert_keys(&ended.json(), &["metric", "output", "results", "seeds"]);
    let table = fs::read_to_string(folder.path("compared/results.csv")).expect("a table");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("recipe,model,seed,img_size,epochs,val_top1,"), "{table}");
    assert!(lines[1].starts_with("shifted_window,stl_shifted_window_nano,0,32,1,"), "{table}");
    assert!(lines[2].starts_with("criss_cross,stl_criss_cross_nano,0,32,1,"), "{table}");
    assert!(decode(&folder.path("compared/compare.png")).is_ok());
    let run = names(&folder.path("compared/criss_cross_seed0"));
    assert!(run.contains(&"last.safetensors".to_owned()), "{run:?}");
    assert!(!run.contains(&"checkpoint.safetensors".to_owned()), "{run:?}");

    let weights = "compared/criss_cross_seed0/last.safetensors";
    let scores = folder.run(&format!("eval --data data --checkpoint {weights}")).expect_code(0);
    let top1 = lines[2].split(',').nth(5).expect("a column").parse().expect("a score");
    assert_eq!(scores.json()["val_top1"].as_f64(), Some(top1));

    // Only the second seed is trained, and speed is not measured again.
    let ended = folder.run(&format!("{compare} --seeds 0 1")).expect_code(0);
    assert_eq!(ended.stderr.matches(", seed 1").count(), 2, "{}", ended.stderr);
    assert_eq!(ended.stderr.matches(", seed 0").count(), 0, "{}", ended.stderr);
    let more = fs::read_to_string(folder.path("compared/results.csv")).expect("a table");
    assert!(more.starts_with(&table), "{more}");
    assert_eq!(more.lines().count(), 5);
    let json = ended.json();
    let results = json["results"].as_array().expect("a list");
    assert_eq!(results.len(), 2);
    for result in results {
        let recipe = result["recipe"].as_str().expect("a name");
        let scores: Vec<f64> = more
            .lines()
            .filter(|line| line.starts_with(recipe))
            .map(|line| line.split(',').nth(5).expect("a column").parse().expect("a score"))
            .collect();
        let mean = result["val_top1"].as_f64().expect("a mean");
        assert!((mean - (scores[0] + scores[1]) / 2.0).abs() < 1e-12, "{result} {scores:?}");
        assert!(result["train_images_per_second"].as_f64() > Some(0.0), "{result}");
        assert!(result["inference_peak_rss_mb"].as_f64() > Some(1.0), "{result}");
        assert!(result["gmacs"].as_f64() > Some(0.0), "{result}");
    }

    let other = compare.replace("--epochs 1", "--epochs 2");
    folder.fails(&other, 2, &["output", "shifted_window_seed0", "other settings"]);
    folder.fails(&format!("{compare} --model biformer_pico"), 2, &["model", "recipes differ in"]);
    folder.fails(&format!("{compare} --seed 3"), 2, &["seed", "--seeds"]);
    folder.fails("compare shifted_window.toml", 2, &["data", "folder of the pictures"]);
    folder.fails("compare missing.toml --data data", 1, &["missing.toml"]);
    let twice = "compare criss_cross.toml ./criss_cross.toml --data data";
    folder.fails(twice, 1, &["criss_cross.toml", "another recipe"]);
    folder.write("compared/results.csv", "recipe,model\nx,y\n");
    folder.fails(compare, 1, &["results.csv", "missing field"]);
}
