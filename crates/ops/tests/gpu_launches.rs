//! Which kernels an operator launches on a GPU: each of them reads and writes maps, and a copy among them is a
//! layout that did not fit. CubeCL writes down what it launches if a file in the working folder says so,
//! hence the one test in a process of its own.
#![cfg(feature = "gpu")]

#[allow(dead_code, reason = "other tests use the rest")]
mod numbers;

mod gpu {
    use std::fs;
    use std::path::Path;

    use biformer_ops::{
        RegionGrid, RoutedAttentionOptions, RoutingOptions, depthwise_conv, global_attention,
        layer_norm, route, routed_attention_lce, split_qkv,
    };
    use burn::tensor::{Device, Tensor};

    use crate::numbers::{numbers, values};

    /// Kernels that CubeCL launched since the log had `before` lines, without their numbers.
    fn launched(log: &Path, before: usize) -> Vec<String> {
        let text = fs::read_to_string(log).expect("a log");
        let names = text.lines().skip(before).filter_map(|line| line.strip_prefix("Executing "));
        names.map(|name| name.split_once('_').map_or(name, |(name, _)| name).to_owned()).collect()
    }

    #[test]
    fn launches_are_few_and_without_copies() {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gpu_launches");
        fs::create_dir_all(&folder).expect("a folder");
        let log = folder.join("launches.log");
        let _ = fs::remove_file(&log);
        let config = format!("[profiling]\nlogger = {{ level = \"minimal\", file = {log:?} }}\n");
        fs::write(folder.join("cubecl.toml"), config).expect("a configuration");
        std::env::set_current_dir(&folder).expect("the folder");

        let device = Device::default();
        let grid = RegionGrid::pad_first(14, 14, 7);
        let options = RoutedAttentionOptions { num_heads: 2, scale: 0.2, mask_padding: false };
        let ready = |x: Tensor<4>| {
            values(x.clone().slice([0..1, 0..1, 0..1, 0..1])); // the maps are on the device
            x
        };
        let qkv = ready(numbers([2, 14, 14, 3 * 64], 1, &device));
        let map = ready(numbers([2, 14, 14, 64], 2, &device));
        let weight = ready(numbers([64, 1, 5, 5], 3, &device));
        let row = ready(numbers([1, 1, 1, 64], 4, &device)).reshape([64]);
        let launches = |run: &dyn Fn() -> Tensor<4>| {
            let before = fs::read_to_string(&log).map_or(0, |text| text.lines().count());
            let output = run().slice([0..1, 0..1, 0..1, 0..1]);
            values(output);
            let mut found = launched(&log, before);
            assert_eq!(found.pop().as_deref(), Some("SliceKernel"), "of the number that is read");
            found
        };

        let [query, key, value] = split_qkv(qkv.clone());
        let routing = RoutingOptions::default();
        let attend = |qkv, weight, row| {
            let graph = route(&query, &key, &grid, &routing);
            routed_attention_lce(qkv, graph, weight, row, &grid, &options)
        };
        // The copy is that of the weight, channels last.
        let expected = ["RegionMeans", "Affinity", "Topk", "Attend", "CopyKernel", "Convolve"];
        let found = launches(&|| attend(qkv.clone(), weight.clone(), row.clone()));
        assert_eq!(found, expected, "attention with LCE");
        let found =
            launches(&|| global_attention(query.clone(), key.clone(), value.clone(), 2, 0.2));
        assert_eq!(found, ["FullKernel", "Attend"], "global attention, with its graph of zeros");
        let found = launches(&|| depthwise_conv(map.clone(), weight.clone(), row.clone()));
        assert_eq!(found, ["CopyKernel", "Convolve"], "depthwise convolution");
        let found = launches(&|| layer_norm(map.clone(), row.clone(), row.clone(), 1e-6));
        assert_eq!(found, ["Normalize"], "layer norm");

        let found = launches(&|| {
            let qkv = qkv.clone().autodiff().require_grad();
            let (weight, row) = (weight.clone().autodiff(), row.clone().autodiff());
            let gradients = attend(qkv.clone(), weight, row).backward();
            qkv.grad(&gradients).expect("a gradient")
        });
        // The first one is the gradient of the output.
        let backward = [
            "FullKernel",
            "CopyKernel",
            "Convolve",
            "Correlate",
            "SumRows",
            "QueryGradient",
            "Invert",
            "KeyValueGradients",
        ];
        assert_eq!(found, [&expected[..], &backward].concat(), "gradients of attention with LCE");
    }
}
