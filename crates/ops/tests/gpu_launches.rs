//! Which kernels an operator launches on a GPU: each of them reads and writes maps, and a copy among them is a
//! layout that did not fit. CubeCL writes down what it launches if a file in the working folder says so,
//! hence the one test in a process of its own.
#![cfg(feature = "gpu")]

#[allow(dead_code, reason = "other tests use the rest")]
mod numbers;

mod gpu {
    use std::fs;
    use std::path::Path;
    use std::thread::sleep;
    use std::time::Duration;

    use biformer_ops::{
        RegionGrid, RoutedAttentionOptions, RoutingOptions, depthwise_conv, global_attention,
        layer_norm, prepare_depthwise_weight, route, routed_attention_lce, split_qkv,
    };
    use burn::tensor::{DType, Device, Tensor};

    use crate::numbers::numbers;

    /// Names of the kernels that CubeCL has launched, without their numbers.
    fn launched(log: &Path) -> Vec<String> {
        let text = fs::read_to_string(log).unwrap_or_default();
        let names = text.lines().filter_map(|line| line.strip_prefix("Executing "));
        names.map(|name| name.split_once('_').map_or(name, |(name, _)| name).to_owned()).collect()
    }

    /// What is launched for a map, and before it. One number of it is read, by the last kernel of all, for which
    /// this waits: the log is written on another thread.
    fn launches_of(log: &Path, run: impl FnOnce() -> Tensor<4>) -> Vec<String> {
        const LAST: &str = "SliceKernel";
        let before = launched(log).len();
        let _ = run().slice([0..1, 0..1, 0..1, 0..1]).into_data();
        for _ in 0..1000 {
            let mut found = launched(log).split_off(before);
            if found.pop_if(|name| name == LAST).is_some() {
                return found;
            }
            sleep(Duration::from_millis(10));
        }
        panic!("the log ends without {LAST}: {:?}", launched(log));
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
            launches_of(&log, || x.clone()); // the maps are on the device
            x
        };
        let qkv = ready(numbers([2, 14, 14, 3 * 64], 1, &device));
        let map = ready(numbers([2, 14, 14, 64], 2, &device));
        let weight = ready(numbers([64, 1, 5, 5], 3, &device));
        let row = ready(numbers([1, 1, 1, 64], 4, &device)).reshape([64]);
        let launches = |run: &dyn Fn() -> Tensor<4>| launches_of(&log, run);

        let [query, key, value] = split_qkv(qkv.clone());
        let routing = RoutingOptions::default();
        let attend = |qkv: Tensor<4>, weight, row| {
            let [query, key, _] = split_qkv(qkv.clone());
            let graph = route(&query, &key, &grid, &routing);
            routed_attention_lce(qkv, graph, weight, row, &grid, &options)
        };
        // The copy is that of the weight, channels last.
        let expected = ["RegionMeans", "Affinity", "Topk", "Attend", "CopyKernel", "Convolve"];
        let found = launches(&|| attend(qkv.clone(), weight.clone(), row.clone()));
        assert_eq!(found, expected, "attention with LCE");
        if device.supports_dtype(DType::F16) {
            // Maps of half the bytes, with parameters as they are: nothing is cast. Where the device multiplies
            // tiles, attention is a kernel of that.
            let half = ready(qkv.clone().cast(DType::F16));
            let found = launches(&|| attend(half.clone(), weight.clone(), row.clone()));
            let found = found.iter().map(|name| name.strip_suffix("Tiles").unwrap_or(name));
            assert_eq!(found.collect::<Vec<_>>(), expected, "attention with LCE of half maps");
        } else {
            eprintln!("not tested: this device has no F16");
        }
        let found =
            launches(&|| global_attention(query.clone(), key.clone(), value.clone(), 2, 0.2));
        assert_eq!(found, ["FullKernel", "Attend"], "global attention, with its graph of zeros");
        let found = launches(&|| depthwise_conv(map.clone(), weight.clone(), row.clone()));
        assert_eq!(found, ["CopyKernel", "Convolve"], "depthwise convolution");
        let prepared = ready(prepare_depthwise_weight(weight.clone()));
        let found = launches(&|| depthwise_conv(map.clone(), prepared.clone(), row.clone()));
        assert_eq!(found, ["Convolve"], "depthwise convolution for inference");
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
