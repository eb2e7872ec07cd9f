//! Masks as runs and average precision, against pycocotools.

mod detection {
    use std::fs;

    use super::super::fixtures::{for_each_file, name};
    use biformer::data::detection::{Bitmap, Rle};
    use biformer::detection::{IouType, evaluate_results};
    use serde_json::{Value, json};

    #[test]
    fn rle() {
        for_each_file("metric_rle", &["json"], |path| {
            let text = fs::read_to_string(path).expect("a file");
            let cases: Vec<Value> = serde_json::from_str(&text).expect("JSON");
            for case in &cases {
                let rows: Vec<Vec<u8>> =
                    serde_json::from_value(case["mask"].clone()).expect("rows");
                let [height, width]: [u32; 2] =
                    serde_json::from_value(case["size"].clone()).expect("a size");
                let bitmap = Bitmap::from_raw(width, height, rows.concat()).expect("a bitmap");
                let mask = Rle::encode(&bitmap);
                let file = json!({"size": case["size"], "counts": case["counts"]});
                assert_eq!(serde_json::to_value(&mask).expect("JSON"), file);
                assert_eq!(serde_json::from_value::<Rle>(file).expect("a mask"), mask);
                assert_eq!(mask.decode(), bitmap);
                assert_eq!(Some(mask.area()), case["area"].as_u64());
                let bbox: Vec<f64> = serde_json::from_value(case["bbox"].clone()).expect("a box");
                assert_eq!(mask.bounding_box().map(f64::from), *bbox);
            }
            Ok(5 * cases.len())
        });
    }

    #[test]
    fn coco() {
        for_each_file("metric_coco", &["json"], |path| {
            let text = fs::read_to_string(path).expect("a file");
            let fixture: Value = serde_json::from_str(&text).expect("JSON");
            let folder = tempfile::tempdir().expect("a folder");
            let [truth, found] = ["gt", "detections"].map(|part| {
                let file = folder.path().join(part);
                fs::write(&file, fixture[part].to_string()).expect("a file");
                file
            });
            // f64 on both sides: only the order of sums differs. −1 and null are "no truth".
            let close = |what: &str, found: f64, expected: &Value| {
                let expected = expected.as_f64().filter(|&score| score != -1.0);
                let equal = match expected {
                    None => found.is_nan(),
                    Some(expected) => (found - expected).abs() <= 1e-9,
                };
                assert!(equal, "{}: {what}: {found}, expected {expected:?}", name(path));
            };
            let mut compared = 0;
            for (kind, iou_type) in [("bbox", IouType::Bbox), ("segm", IouType::Segm)] {
                let (scores, categories) =
                    evaluate_results(&truth, &found, iou_type).expect("scores");
                for (place, (name, score)) in scores.named().into_iter().enumerate() {
                    close(&format!("{kind} {name}"), score, &fixture[kind][place]);
                }
                let by_class = &fixture[format!("{kind}_per_category_ap")];
                for (category, class) in categories.iter().zip(&scores.classes) {
                    let what = format!("{kind} of {}", category.name);
                    close(&what, class.ap(), &by_class[category.id.to_string()]);
                }
                let by_threshold = &fixture[format!("{kind}_ap_per_iou_thr")];
                for (place, score) in scores.ap_by_threshold().into_iter().enumerate() {
                    close(&format!("{kind} at threshold {place}"), score, &by_threshold[place]);
                }
                compared += 12 + categories.len() + 10;
            }
            Ok(compared)
        });
    }
}
