//! From `--device` to a Burn device.

use biformer::Error;
use burn::tensor::Device;

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
            (kind, index)
        }
        None => (name, 0),
    };
    match kind {
        "cpu" if index == 0 => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(index)),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(burn::tensor::DeviceKind::DiscreteGpu(index))),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(burn::tensor::DeviceKind::DiscreteGpu(index))),
        #[cfg(feature = "metal")]
        "metal" => Ok(Device::metal(burn::tensor::DeviceKind::DefaultDevice)),
        "cuda" | "vulkan" | "wgpu" | "metal" => {
            let build = format!("build with `cargo build --release --features {kind}`");
            Err(Error::option("device", format!("{kind} is not built in; {build}")))
        }
        _ => {
            let known = "cpu, cuda, vulkan, wgpu, metal";
            Err(Error::option("device", format!("no device `{name}`; there are {known}")))
        }
    }
}
