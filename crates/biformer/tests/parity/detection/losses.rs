//! Family `op_losses`: torchvision's focal loss and PyTorch's smooth L1, each element and the gradient of the sum.

use biformer::detection::{FocalLoss, l1_loss, smooth_l1_loss};
use burn::tensor::{Device, Tensor};

use super::super::fixtures::*;

/// Losses of single elements, from logits up to 4 in size: the exponentials of two libraries differ in the last
/// digit.
const TOLERANCE: f64 = 1e-5;

#[test]
fn focal() {
    for_each_file("op_losses", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let device = Device::default().autodiff();
        let targets = fixture.tensor::<2>("targets", &device);
        // Without α, what is there and what is not weigh 1 each: twice as much as with α = 0.5.
        let cases =
            [("a25_g2", 0.25, 2.0, 1.0), ("a5_g1_5", 0.5, 1.5, 1.0), ("noalpha_g2", 0.5, 2.0, 2.0)];
        for (name, alpha, gamma, factor) in cases {
            let logits = fixture.tensor::<2>("logits", &device).require_grad();
            let loss = FocalLoss { gamma, alpha }.forward(logits.clone(), targets.clone()) * factor;
            check(&fixture, name, logits, loss);
        }
        Ok(2 * cases.len())
    });
}

#[test]
fn smooth_l1() {
    for_each_file("op_losses", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let device = Device::default().autodiff();
        let targets = fixture.tensor::<2>("sl1.target", &device);
        let betas = [("0.0000", 0.0), ("0.1111", 1.0 / 9.0), ("1.0000", 1.0)];
        for (name, beta) in betas {
            let predictions = fixture.tensor::<2>("sl1.pred", &device).require_grad();
            let loss = match beta {
                0.0 => l1_loss(predictions.clone(), targets.clone()),
                beta => smooth_l1_loss(predictions.clone(), targets.clone(), beta),
            };
            check(&fixture, &format!("smoothl1_{name}"), predictions, loss);
        }
        Ok(2 * betas.len())
    });
}

/// Compares every element of a loss, and the gradient of its sum by `input`.
fn check(fixture: &Fixture, name: &str, input: Tensor<2>, loss: Tensor<2>) {
    let expected = |part: &str| &fixture.state_tensor(&format!("{name}.{part}")).data;
    assert_close(name, &values(loss.clone()), expected("loss"), TOLERANCE);
    let gradient = input.grad(&loss.sum().backward()).expect("a gradient");
    assert_close(name, &values(gradient), expected("grad_of_sum"), TOLERANCE);
}
