//! The generated set.

use biformer::data::Example;
use biformer::data::shapes::{
    CLASSES, ObjectsConfig, Split, render_objects, write_detection_folder,
};
use tempfile::tempdir;

use super::files::open;

#[test]
fn a_generated_set_has_boxes_and_masks() {
    let folder = tempdir().unwrap();
    let config =
        ObjectsConfig { img_size: 64, train_images: 12, val_images: 3, ..Default::default() };
    write_detection_folder(folder.path(), &config).unwrap();
    let again = write_detection_folder(folder.path(), &config).unwrap_err().to_string();
    assert!(again.contains("holds `train` already"), "{again}");
    for (split, name, count) in [(Split::Train, "train", 12), (Split::Val, "val", 3)] {
        let set = open(folder.path(), name).unwrap();
        assert_eq!(
            (set.class_names().as_slice(), set.samples.len()),
            (&CLASSES.map(String::from)[..], count)
        );
        for (index, sample) in set.samples.iter().enumerate() {
            let (image, objects) = render_objects(&config, split, index);
            assert_eq!(sample.decode().unwrap(), image);
            assert!((1..=3).contains(&objects.len()));
            assert_eq!(objects.len(), sample.instances.len());
            for (instance, (class, bitmap)) in sample.instances.iter().zip(objects) {
                let mask = instance.mask(sample.size);
                assert_eq!((instance.label, mask.decode()), (class, bitmap));
                assert_eq!(instance.bbox, mask.bounding_box().map(f64::from));
                assert_eq!(instance.area, mask.area() as f64);
                // The least radius is a fifth of half the side.
                assert!(mask.area() > 20, "{}", mask.area());
            }
            let masks: Vec<_> =
                sample.instances.iter().map(|thing| thing.mask(sample.size)).collect();
            for (place, mask) in masks.iter().enumerate() {
                assert!(masks[..place].iter().all(|other| mask.iou(other, false) == 0.0));
            }
        }
    }
    assert_ne!(render_objects(&config, Split::Train, 0), render_objects(&config, Split::Val, 0));
}
