//! Detection: families `mm_anchors`, `mm_boxes`, `mm_retina_head`, `op_anchors_torchvision`, `op_boxes`, `op_nms`,
//! `op_losses`, `op_roialign`, `mm_rpn_head` and `mm_roi_heads`.

mod boxes;
mod losses;
mod mask_rcnn;
mod retinanet;

use biformer::detection::Xyxy;
use serde_json::Value;

use super::fixtures::Fixture;

/// Boxes of a fixture, `[boxes, 4]`.
fn boxes(fixture: &Fixture, name: &str) -> Vec<Xyxy> {
    fixture.state_tensor(name).data.as_chunks().0.to_vec()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn numbers(value: &Value) -> Vec<usize> {
    list(value).iter().map(|number| number.as_u64().expect("a number") as usize).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    list(value).iter().map(|number| number.as_f64().expect("a number") as f32).collect()
}

fn pair(value: &Value) -> [usize; 2] {
    numbers(value).try_into().expect("two numbers")
}
