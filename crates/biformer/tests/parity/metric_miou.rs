//! Scores of semantic segmentation, against those of MMSegmentation's definition.

mod segmentation {
    use super::super::fixtures::{Fixture, for_each_file, name};
    use biformer::segmentation::PixelConfusion;

    #[test]
    fn mean_iou() {
        for_each_file("metric_miou", &["safetensors"], |path| {
            let fixture = Fixture::read(path);
            let classes = fixture.meta["num_classes"].as_u64().expect("num_classes") as usize;
            let labels = |name: &str| -> Vec<u8> {
                fixture.labels(name).into_iter().map(|label| label as u8).collect()
            };
            let mut confusion = PixelConfusion::new(classes);
            let (prediction, truth) = (labels("pred"), labels("label"));
            // Picture by picture, as an evaluation does.
            let pictures = fixture.routing("pred").0[0];
            let pixels = truth.len() / pictures;
            for (prediction, truth) in prediction.chunks(pixels).zip(truth.chunks(pixels)) {
                confusion.update(prediction, truth);
            }
            let counts = &fixture.routing("confusion_rows_are_label").1;
            for (place, &count) in counts.iter().enumerate() {
                assert_eq!(confusion.count(place / classes, place % classes), count as u64);
            }
            // f64 on both sides: only the order of a sum differs.
            let close = |what: &str, found: f64, expected: f64| {
                let equal = found.is_nan() && expected.is_nan() || (found - expected).abs() <= 1e-9;
                assert!(equal, "{}: {what}: {found}, expected {expected}", name(path));
            };
            let (iou, acc) = (&fixture.doubles["iou"], &fixture.doubles["acc"]);
            for ((class, &iou), &acc) in confusion.per_class().iter().zip(iou).zip(acc) {
                close("IoU", class.iou(), iou);
                close("Acc", class.accuracy(), acc);
            }
            let means = &fixture.doubles["mIoU_mAcc_aAcc"];
            close("mIoU", confusion.mean_iou(), means[0]);
            close("mAcc", confusion.mean_accuracy(), means[1]);
            close("aAcc", confusion.pixel_accuracy(), means[2]);
            Ok(counts.len() + 2 * classes + 3)
        });
    }
}
