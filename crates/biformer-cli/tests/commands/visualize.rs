//! `visualize`: drawings and pages of pictures, and what is refused.

use std::fs;

use serde_json::Value;

use super::Folder;

/// What a page holds.
pub(super) fn data(page: &str) -> Value {
    let (_, rest) =
        page.split_once("<script id=\"data\" type=\"application/json\">").expect("data");
    let (data, _) = rest.split_once("</script>").expect("its end");
    serde_json::from_str(data).expect("JSON")
}

#[test]
fn each_picture_gets_a_drawing_and_a_page() {
    let folder = Folder::with_pictures();
    let visualize = "visualize --query 3,4 --query 30,16 --output drawn";
    let pictures = "data/val/disc/0000.png data/val/ring/0000.png";
    let ended = folder.run(&format!("{visualize} {pictures}")).expect_code(0);
    assert_eq!(ended.json()["drawings"], serde_json::json!(["0000", "0000_2"]));
    assert_eq!([&ended.json()["stage"], &ended.json()["block"]], [3, 3]);
    for name in ["0000", "0000_2", "contact_sheet"] {
        image::open(folder.path(&format!("drawn/{name}.png"))).expect("a PNG");
    }
    let drawing = image::open(folder.path("drawn/0000.png")).expect("a PNG");
    assert!(drawing.width() > 3 * 384 && drawing.height() > 2 * 384, "three panels, two queries");

    let page = fs::read_to_string(folder.path("drawn/0000.html")).expect("a page");
    // The goal is 5 MB for any model; nothing is fetched.
    assert!(page.len() < 1 << 20 && !page.contains("http"), "{} bytes", page.len());
    let data = data(&page);
    assert_eq!(data["title"], "0000.png");
    let depths: Vec<usize> = data["stages"]
        .as_array()
        .expect("stages")
        .iter()
        .map(|blocks| blocks.as_array().expect("blocks").len())
        .collect();
    assert_eq!(depths, [1, 1, 3, 1]);
    let block = &data["stages"][2][0];
    let routes = block["routes"].as_array().expect("routes");
    assert_eq!((routes.len(), routes[0].as_array().map(Vec::len)), (16, Some(8)));
    assert_eq!(data["stages"][3][0]["routes"], Value::Null);
}

#[test]
fn a_stage_a_block_and_a_head_are_chosen() {
    let folder = Folder::with_pictures();
    let draw = |flags: &str, output: &str| {
        let picture = "data/val/disc/0000.png";
        folder.run(&format!("visualize {picture} {flags} --output {output}")).expect_code(0);
        fs::read(folder.path(&format!("{output}/0000.png"))).expect("a PNG")
    };
    let drawings = [
        draw("", "default"),
        draw("--block 1", "block"),
        draw("--stage 2", "stage"),
        draw("--stage 4", "last_stage"),
        draw("--head 1", "head"),
    ];
    for (i, drawing) in drawings.iter().enumerate() {
        assert!(!drawings[..i].contains(drawing), "drawing {i} is one of those before");
    }
    assert_eq!(drawings[0], draw("--stage 3 --block last --head all", "said"));
}

#[test]
fn what_is_not_there_is_named() {
    let folder = Folder::with_pictures();
    let visualize = |flags: &str| format!("visualize data/val/disc/0000.png {flags}");
    folder.fails(&visualize("--block 4"), 2, &["`block`", "stage 3 has 3 blocks, got 4"]);
    folder.fails(&visualize("--head 4"), 2, &["`head`", "heads 0 to 3, got 4"]);
    folder.fails(&visualize("--stage 5"), 2, &["--stage", "1..=4"]);
    folder.fails(&visualize("--query 3"), 2, &["--query", "as in 320,200"]);
    folder.fails("visualize nowhere.png", 1, &["nowhere.png"]);
    let ended = folder.run(&visualize("--query 32,0 --output out")).expect_code(1);
    assert!(ended.stderr.contains("it sees 0 to 31 from the left"), "{}", ended.stderr);
    assert_eq!(fs::read_dir(folder.path("out")).expect("a folder").count(), 0);
}
