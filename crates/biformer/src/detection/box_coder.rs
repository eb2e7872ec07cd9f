//! Boxes relative to anchors (Girshick et al., CVPR 2014, appendix C; mmdetection's `DeltaXYWHBBoxCoder`).

use super::boxes::Xyxy;

/// Changes of centre and of size: (Δx, Δy) in widths and heights of the anchor, (Δw, Δh) as logarithms, each
/// divided by its deviation.
pub type Deltas = [f32; 4];

/// ln(1000 / 16): no box becomes larger or smaller than its anchor by more than that.
const MAX_LOG_RATIO: f32 = 4.135_166_6;

/// How boxes are told relative to anchors, with means of 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxCoder {
    /// Deviations of the deltas.
    pub stds: [f32; 4],
}

impl BoxCoder {
    /// Of RetinaNet and of region proposals.
    pub const UNIT: Self = Self { stds: [1.0; 4] };

    /// Of the boxes of regions of interest.
    pub const REGIONS: Self = Self { stds: [0.1, 0.1, 0.2, 0.2] };

    /// What makes `target` of `anchor`. Both need an area: the logarithm of nothing is no number.
    pub fn encode(&self, anchor: Xyxy, target: Xyxy) -> Deltas {
        let [[x, y, width, height], [to_x, to_y, to_width, to_height]] =
            [anchor, target].map(cxcywh);
        let deltas = [
            (to_x - x) / width,
            (to_y - y) / height,
            (to_width / width).ln(),
            (to_height / height).ln(),
        ];
        std::array::from_fn(|i| deltas[i] / self.stds[i])
    }

    /// The box that the deltas make of `anchor`. It may reach out of the picture:
    /// [`clip`](super::boxes::clip) cuts it.
    pub fn decode(&self, anchor: Xyxy, deltas: Deltas) -> Xyxy {
        let [dx, dy, dw, dh]: [f32; 4] = std::array::from_fn(|i| deltas[i] * self.stds[i]);
        let [x, y, width, height] = cxcywh(anchor);
        let [dw, dh] = [dw, dh].map(|ratio| ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO));
        let (x, y) = (x + width * dx, y + height * dy);
        let (width, height) = (width * dw.exp(), height * dh.exp());
        [x - 0.5 * width, y - 0.5 * height, x + 0.5 * width, y + 0.5 * height]
    }
}

/// Centre and size.
fn cxcywh([x1, y1, x2, y2]: Xyxy) -> [f32; 4] {
    [0.5 * (x1 + x2), 0.5 * (y1 + y2), x2 - x1, y2 - y1]
}
