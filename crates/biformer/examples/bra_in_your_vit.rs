//! Bi-level routing attention as a layer in one's own model.
//!
//! ```text
//! cargo run --release --example bra_in_your_vit
//! ```
//!
//! A plain vision transformer with one block: patches, attention, mean, head. Attention takes
//! and gives channels-last maps, so that no class token is needed and any size works.

use biformer::attention::{BiLevelRoutingAttention, BraConfig};
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Tensor};

const DIM: usize = 64;

#[derive(Module, Debug)]
struct MyVit {
    patches: Conv2d,
    norm: LayerNorm,
    attention: BiLevelRoutingAttention,
    head: Linear,
}

impl MyVit {
    fn new(num_classes: usize, device: &Device) -> Self {
        let (num_heads, n_win, topk) = (2, 7, 4); // each of 7 × 7 regions attends to 4
        Self {
            patches: Conv2dConfig::new([3, DIM], [8, 8]).with_stride([8, 8]).init(device),
            norm: LayerNormConfig::new(DIM).init(device),
            attention: BraConfig::new(DIM, num_heads, n_win, topk).init(device),
            head: LinearConfig::new(DIM, num_classes).init(device),
        }
    }

    /// # Shapes
    /// - images: `[batch, 3, height, width]`
    /// - output: `[batch, num_classes]`
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.embed(images);
        let x = x.clone() + self.attention.forward(self.norm.forward(x));
        let [batch, height, width, _] = x.dims();
        let x = x.reshape([batch, height * width, DIM]).mean_dim(1).squeeze_dim(1); // [batch, DIM]
        self.head.forward(x)
    }

    /// Patches as a channels-last map, `[batch, height / 8, width / 8, DIM]`.
    fn embed(&self, images: Tensor<4>) -> Tensor<4> {
        self.patches.forward(images).permute([0, 2, 3, 1])
    }
}

fn main() {
    let device = Device::default().autodiff();
    let model = MyVit::new(10, &device);
    let images = Tensor::random([2, 3, 224, 224], Distribution::Default, &device);

    let logits = model.forward(images.clone());
    println!("logits {:?}", logits.dims());
    let gradients = logits.sum().backward();
    let gradient = model.attention.qkv.weight.val().grad(&gradients);
    println!("gradient of the projection {:?}", gradient.map(|gradient| gradient.dims()));

    // Where does the first region look?
    let trace = model.attention.forward_traced(model.norm.forward(model.embed(images)));
    if let Some(routing) = trace.routing {
        let regions = routing.region_graph.slice([0..1, 0..1]).into_data();
        println!("region 0 of {} attends to {regions}", routing.grid.regions());
    }
}
