//! Average precision by hand; the fixtures and `tests/pycocotools/compare.py` have the numbers of pycocotools.

use std::thread;

use biformer::data::Shard;
use biformer::data::detection::{CocoResult, Instance, Rle, Segmentation, write_results};
use biformer::detection::{
    AveragePrecision, CocoScores, FoundInstance, IouType, evaluate_results, write_per_class_csv,
};
use biformer::distributed::World;
use serde_json::json;
use tempfile::tempdir;

use super::files::{instances, write_json};
use crate::thread_link::Threads;

const SIZE: [u32; 2] = [100, 100];

fn truth(label: usize, bbox: [f64; 4]) -> Instance {
    let [left, top, width, height] = bbox;
    let (right, bottom) = (left + width, top + height);
    let corners = vec![left, top, right, top, right, bottom, left, bottom];
    Instance {
        id: 1,
        label,
        bbox,
        area: width * height,
        is_crowd: false,
        segmentation: Some(Segmentation::Polygons(vec![corners])),
    }
}

fn found(label: usize, bbox: [f64; 4], score: f64) -> FoundInstance {
    let mask = truth(label, bbox).mask(SIZE);
    FoundInstance { label, bbox, score, mask: Some(mask) }
}

fn scores(iou_type: IouType, pictures: &[(&[Instance], &[FoundInstance])]) -> CocoScores {
    let mut all = AveragePrecision::new(2, iou_type);
    for (image, (truths, found)) in (1..).zip(pictures) {
        all.update(image, SIZE, truths, found);
    }
    all.scores()
}

fn named(scores: &CocoScores, name: &str) -> f64 {
    scores.named().into_iter().find(|(known, _)| *known == name).unwrap().1
}

#[test]
fn a_wrong_one_between_two_right_ones() {
    let [a, b] = [[0.0, 0.0, 20.0, 20.0], [50.0, 50.0, 20.0, 20.0]];
    let truths = [truth(0, a), truth(0, b)];
    let detections = [
        found(0, b, 0.5),
        found(0, a, 0.9),
        found(0, [0.0, 60.0, 20.0, 20.0], 0.7), // where nothing is
        found(0, a, 0.4),                       // found already
    ];
    for iou_type in [IouType::Bbox, IouType::Segm] {
        let scores = scores(iou_type, &[(&truths, &detections)]);
        // Precision 1 up to recall 0.5 (51 of 101 recalls), then 2 of 3.
        let expected = (51.0 + 50.0 * 2.0 / 3.0) / 101.0;
        for score in [scores.ap(), scores.ap50(), scores.ap75(), scores.classes[0].ap()] {
            assert!((score - expected).abs() < 1e-12, "{score}");
        }
        // 400 pixels are small; of other areas, and of the other class, there is nothing.
        let [small, medium, large] = scores.ap_by_area();
        assert!((small - expected).abs() < 1e-12 && medium.is_nan() && large.is_nan());
        assert!(scores.classes[1].ap().is_nan());
        assert_eq!((scores.classes[0].truths, scores.classes[0].detections), (2, 4));
        assert_eq!((named(&scores, "AR1"), named(&scores, "AR10")), (0.5, 1.0));
    }
}

#[test]
fn thresholds_are_reached_one_after_the_other() {
    // IoU 0.72: at 0.5 to 0.7 it is right, above it is wrong.
    let detections = [found(0, [0.0, 0.0, 18.0, 20.0], 0.3)];
    let scores = scores(IouType::Bbox, &[(&[truth(0, [0.0, 0.0, 25.0, 20.0])], &detections)]);
    let expected = [1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    for (score, expected) in scores.ap_by_threshold().into_iter().zip(expected) {
        assert!((score - expected).abs() < 1e-12);
    }
    assert_eq!(named(&scores, "AR100"), 0.5);
}

#[test]
fn crowds_and_other_areas_do_not_count() {
    let crowd = Instance { is_crowd: true, ..truth(0, [0.0, 0.0, 60.0, 60.0]) };
    let truths = [crowd, truth(0, [70.0, 70.0, 20.0, 20.0])];
    let detections = [
        found(0, [0.0, 0.0, 10.0, 10.0], 0.9), // all within the crowd, twice
        found(0, [20.0, 20.0, 10.0, 10.0], 0.8),
        found(0, [70.0, 70.0, 20.0, 20.0], 0.7),
        found(0, [50.0, 80.0, 10.0, 10.0], 0.6), // beside it
    ];
    let found_all = scores(IouType::Bbox, &[(&truths, &detections)]);
    assert!((found_all.ap() - 1.0).abs() < 1e-12, "{}", found_all.ap());
    assert_eq!(found_all.classes[0].truths, 1);
    // A large thing where a small one is asked for is not wrong, but a small one is.
    let large = [found(0, [0.0, 0.0, 99.0, 99.0], 0.9), found(0, [70.0, 70.0, 20.0, 20.0], 0.7)];
    let small = scores(IouType::Bbox, &[(&truths[1..], &large)]);
    assert!((small.ap_by_area()[0] - 1.0).abs() < 1e-12 && small.ap() < 0.51);
}

#[test]
fn equal_scores_stay_in_the_order_of_pictures() {
    let bbox = [0.0, 0.0, 20.0, 20.0];
    let (truths, right, wrong) =
        ([truth(0, bbox)], [found(0, bbox, 0.5)], [found(0, [50.0, 50.0, 9.0, 9.0], 0.5)]);
    let right_first = scores(IouType::Bbox, &[(&truths, &right), (&[], &wrong)]);
    let wrong_first = scores(IouType::Bbox, &[(&[], &wrong), (&truths, &right)]);
    assert!((right_first.ap() - 1.0).abs() < 1e-12 && (wrong_first.ap() - 0.5).abs() < 1e-12);
    let mut backwards = AveragePrecision::new(2, IouType::Bbox);
    backwards.update(2, SIZE, &truths, &right);
    backwards.update(1, SIZE, &[], &wrong);
    assert_eq!(backwards.scores().ap(), wrong_first.ap());
}

#[test]
fn a_hundred_detections_of_a_class_count() {
    let bbox = [0.0, 0.0, 20.0, 20.0];
    let detections = |wrong: usize| -> Vec<FoundInstance> {
        let wrong = (0..wrong).map(|_| found(0, [50.0, 50.0, 9.0, 9.0], 0.9));
        wrong.chain([found(0, bbox, 0.1)]).collect()
    };
    let ap = |wrong| scores(IouType::Bbox, &[(&[truth(0, bbox)], &detections(wrong))]).ap();
    assert!((ap(99) - 0.01).abs() < 1e-12);
    assert_eq!(ap(100), 0.0);
    let mut with_others = detections(99);
    with_others.extend((0..50).map(|_| found(1, [50.0, 50.0, 9.0, 9.0], 0.9)));
    let with_others = scores(IouType::Bbox, &[(&[truth(0, bbox)], &with_others)]);
    assert!((with_others.classes[0].ap() - 0.01).abs() < 1e-12);
}

#[test]
fn processes_find_together_what_one_finds() {
    let picture = |number: usize| {
        let at = 3.0 * number as f64;
        let truths = [truth(number % 2, [at, at, 20.0, 20.0]), truth(0, [60.0, at, 30.0, 40.0])];
        let detections = [
            found(number % 2, [at + 2.0, at, 20.0, 20.0], 0.5),
            found(0, [60.0, at + 9.0, 30.0, 40.0], 0.1 * number as f64),
            found(1, [5.0, 5.0, 8.0, 8.0], 0.5),
        ];
        (truths, detections)
    };
    let seen_by = |numbers: &mut dyn Iterator<Item = usize>| {
        let mut seen = AveragePrecision::new(2, IouType::Segm);
        for number in numbers {
            let (truths, detections) = picture(number);
            seen.update(number as u64, SIZE, &truths, &detections);
        }
        seen
    };
    let alone = seen_by(&mut (0..9)).over(&World::single()).scores();
    let link = Threads::new(2);
    let together: Vec<_> = thread::scope(|scope| {
        let threads = [0, 1].map(|rank| {
            let world = World::new(Shard { rank, size: 2 }, link.clone());
            scope
                .spawn(move || seen_by(&mut (0..9).filter(|n| n % 2 == rank)).over(&world).scores())
        });
        threads.map(|thread| thread.join().expect("no panic")).into()
    });
    assert!(alone.ap() > 0.1 && alone.ap() < 0.9, "{}", alone.ap());
    // As text, where NaN is NaN.
    let alone = format!("{alone:?}");
    assert!(together.iter().all(|scores| format!("{scores:?}") == alone));
}

#[test]
fn files_are_scored_and_what_does_not_fit_is_named() {
    let folder = tempdir().unwrap();
    let [truth, results] = ["truth.json", "results.json"].map(|name| folder.path().join(name));
    write_json(&truth, &instances());
    let mask: Rle = serde_json::from_value(json!({"size": [40, 60], "counts": [0, 2400]})).unwrap();
    let dog = CocoResult {
        image_id: 5,
        category_id: 7,
        bbox: [10.0, 5.0, 20.0, 10.0],
        score: 0.5,
        segmentation: Some(mask),
    };
    write_results(&results, std::slice::from_ref(&dog)).unwrap();
    let (boxes, categories) = evaluate_results(&truth, &results, IouType::Bbox).unwrap();
    assert_eq!(categories[1].name, "dog");
    assert!((boxes.classes[1].ap() - 1.0).abs() < 1e-12 && boxes.classes[0].ap() == 0.0);
    // The mask is that of the whole picture.
    let (masks, _) = evaluate_results(&truth, &results, IouType::Segm).unwrap();
    assert_eq!(masks.classes[1].ap(), 0.0);
    let csv = folder.path().join("classes.csv");
    let names = categories.iter().map(|category| category.name.clone()).collect::<Vec<_>>();
    write_per_class_csv(&csv, &names, &boxes, Some(&masks)).unwrap();
    let text = std::fs::read_to_string(&csv).unwrap();
    let header = "index,class,truths,detections,box_ap,box_ap50,box_ap75,box_ar100,mask_ap,";
    assert!(text.starts_with(header), "{text}");
    assert!(text.ends_with("1,dog,1,1,1.0000,1.0000,1.0000,1.0000,0.0000,0.0000,0.0000,0.0000\n"));

    for (result, words) in [
        (CocoResult { image_id: 6, ..dog.clone() }, "detection 0 is in picture 6"),
        (CocoResult { category_id: 1, ..dog.clone() }, "detection 0 is of category 1"),
        (CocoResult { segmentation: None, ..dog.clone() }, "detection 0 has no mask"),
        (CocoResult { image_id: 11, ..dog }, "detection 0 has no mask of the size"),
    ] {
        write_results(&results, &[result]).unwrap();
        let error = evaluate_results(&truth, &results, IouType::Segm).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("results.json"), "{error}");
    }
}
