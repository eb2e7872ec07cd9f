//! Boxes as corners, and how much two of them share.

/// Left, upper, right and lower edge in pixels, edges and not centres of pixels: a box of one pixel is 1 wide.
pub type Xyxy = [f32; 4];

/// Least union that an overlap is divided by, as mmdetection has it: boxes without an area share nothing.
const LEAST_UNION: f32 = 1e-6;

/// Square pixels; 0 of a box that is turned inside out.
pub fn area([x1, y1, x2, y2]: Xyxy) -> f32 {
    (x2 - x1).max(0.0) * (y2 - y1).max(0.0)
}

/// Intersection over union, from 0 to 1.
pub fn iou(a: Xyxy, b: Xyxy) -> f32 {
    let (shared, union) = shared_and_union(a, b);
    shared / union
}

/// Generalized IoU (Rezatofighi et al., CVPR 2019, Eq. 2): [`iou`] less the share of the smallest box around both
/// that neither covers; from −1 to 1.
pub fn generalized_iou(a: Xyxy, b: Xyxy) -> f32 {
    let (shared, union) = shared_and_union(a, b);
    let around = area([a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]);
    let around = around.max(LEAST_UNION);
    shared / union - (around - union) / around
}

/// The part of a box that lies in a picture of `[height, width]`.
pub fn clip([x1, y1, x2, y2]: Xyxy, [height, width]: [f32; 2]) -> Xyxy {
    [x1.clamp(0.0, width), y1.clamp(0.0, height), x2.clamp(0.0, width), y2.clamp(0.0, height)]
}

fn shared_and_union(a: Xyxy, b: Xyxy) -> (f32, f32) {
    let shared = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    (shared, (area(a) + area(b) - shared).max(LEAST_UNION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_boxes_share() {
        let a = [0.0, 0.0, 4.0, 2.0];
        assert_eq!((iou(a, a), generalized_iou(a, a)), (1.0, 1.0));
        let half = [2.0, 0.0, 6.0, 2.0]; // 4 of 12
        assert_eq!((iou(a, half), generalized_iou(a, half)), (4.0 / 12.0, 4.0 / 12.0));
        let far = [8.0, 0.0, 12.0, 2.0]; // 8 of the 24 around both are empty
        assert_eq!((iou(a, far), generalized_iou(a, far)), (0.0, -8.0 / 24.0));
        let point = [1.0, 1.0, 1.0, 1.0];
        assert_eq!((iou(point, point), iou(a, point)), (0.0, 0.0));
        assert_eq!(clip([-1.0, 1.0, 9.0, 3.0], [2.0, 5.0]), [0.0, 1.0, 5.0, 2.0]);
    }
}
