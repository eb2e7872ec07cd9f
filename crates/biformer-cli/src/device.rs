//! From `--device` to a Burn device, and what `--precision` means there.

use biformer::{Error, check_precision};
use burn::tensor::Device;
#[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu", feature = "metal"))]
use burn::tensor::DeviceType;

use crate::args::{Precision, PrecisionArgs};
#[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu", feature = "metal"))]
use crate::host;

/// Backends that a cargo feature of the same name builds in.
const GPU: [&str; 4] = ["cuda", "vulkan", "wgpu", "metal"];

/// The device of that name.
///
/// # Errors
/// If the name is unknown or its backend is not built in.
pub fn parse(name: &str) -> Result<Device, Error> {
    let (kind, index) = match name.split_once(':') {
        Some((kind, index)) => {
            let index = index.parse::<usize>().map_err(|_| {
                Error::option("device", format!("`{index}` in `{name}` is no index, as in cuda:1"))
            })?;
            (kind, Some(index))
        }
        None => (name, None),
    };
    match kind {
        "cpu" if index.is_none() => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(gpu(kind, DeviceType::Cuda, index, |i| Device::cuda(i.unwrap_or(0)))),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(gpu(kind, DeviceType::Vulkan, index, |i| Device::vulkan(wgpu_kind(i)))),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(gpu(kind, DeviceType::Wgpu, index, |i| Device::wgpu(wgpu_kind(i)))),
        #[cfg(feature = "metal")]
        "metal" => Ok(gpu(kind, DeviceType::Metal, index, |i| Device::metal(wgpu_kind(i)))),
        _ if GPU.contains(&kind) => {
            let build = format!("build with `cargo build --release --features {kind}`");
            Err(Error::option("device", format!("{kind} is not built in; {build}")))
        }
        _ => {
            let known = GPU.join(", ");
            Err(Error::option("device", format!("no device `{name}`; there are cpu, {known}")))
        }
    }
}

/// The precision that the flag names.
///
/// # Errors
/// If the device has no such products.
pub fn precision(args: &PrecisionArgs, device: &Device) -> Result<biformer::Precision, Error> {
    let precision = match args.precision {
        Precision::F32 => biformer::Precision::F32,
        Precision::Bf16 => biformer::Precision::Bf16,
        Precision::F16 => biformer::Precision::F16,
    };
    check_precision(precision, device).map(|()| precision)
}

/// The device of that index. Without one, processes that share a host take its devices in turns.
#[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu", feature = "metal"))]
fn gpu(
    name: &str,
    kind: DeviceType,
    index: Option<usize>,
    of_index: impl FnOnce(Option<usize>) -> Device,
) -> Device {
    crate::progress::say(format!(
        "warning: {name} has been tested against the CPU on software devices alone"
    ));
    let turn = match index {
        None => host::turn(|| Device::enumerate(kind).to_vec()),
        Some(_) => None,
    };
    turn.unwrap_or_else(|| of_index(index))
}

/// Without an index, the device that the driver prefers, be it integrated or in software.
#[cfg(any(feature = "vulkan", feature = "wgpu", feature = "metal"))]
fn wgpu_kind(index: Option<usize>) -> burn::tensor::DeviceKind {
    use burn::tensor::DeviceKind;
    index.map_or(DeviceKind::DefaultDevice, DeviceKind::DiscreteGpu)
}
