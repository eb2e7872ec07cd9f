//! Checkpoints from strangers: crafted and damaged files end in an error or a state dict, never in a
//! panic, an execution or memory without bound. The files are small and made here, byte by byte.

use std::fs;
use std::path::Path;

use biformer::Result;
use biformer::weights::{StateDict, read_metadata, read_state_dict, read_state_dict_from};
use proptest::prelude::*;
use proptest::sample::Index;

mod checkpoint_bytes;
use checkpoint_bytes::*;

#[test]
fn element_types_become_f32_and_integers_are_left_out() {
    let tensors = [
        tensor("f64", "DoubleStorage", 1, &[1], &[1]),
        tensor("f16", "HalfStorage", 4, &[2], &[2]),
        tensor("bf16", "BFloat16Storage", 4, &[4], &[1]),
        tensor("f32", "FloatStorage", 2, &[], &[]),
        tensor("num_batches_tracked", "LongStorage", 1, &[], &[]),
        tensor("mask", "BoolStorage", 8, &[8], &[1]),
    ];
    // One storage, eight bytes: each type reads them in its own way.
    let storage = [0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0xf8, 0x3f];
    let state_dict = read(&zip(&pickle(&tensors), &storage, STORED)).unwrap();
    let data: Vec<_> =
        state_dict.iter().map(|(name, tensor)| (name.as_str(), &tensor.data[..])).collect();
    assert_eq!(
        data,
        [
            ("bf16", &[0.0, 1.0, 0.0, 1.9375][..]),
            ("f16", &[0.0, 0.0]),
            ("f32", &[1.0]),
            ("f64", &[f64::from_le_bytes(storage) as f32]),
        ]
    );
}

#[test]
fn strides_repeat_and_transpose() {
    let tensors = [
        tensor("expanded", "FloatStorage", 4, &[3, 2], &[0, 1]),
        tensor("transposed", "FloatStorage", 4, &[2, 2], &[1, 2]),
    ];
    let storage: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    for bytes in [zip(&pickle(&tensors), &storage, STORED), legacy(&pickle(&tensors), &storage)] {
        let state_dict = read(&bytes).unwrap();
        assert_eq!(state_dict["expanded"].data, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        assert_eq!(state_dict["transposed"].data, [1.0, 3.0, 2.0, 4.0]);
    }
}

#[test]
fn state_dicts_are_found_where_training_scripts_put_them() {
    let storage = 1f32.to_le_bytes();
    let weight = |name: &str| tensor(name, "FloatStorage", 1, &[], &[]);
    let file = |entries: &[Entry]| zip(&pickle(entries), &storage, STORED);
    let optimizer = nested("optimizer", &[weight("state.0")]);
    for key in ["model", "state_dict", "model_state_dict", "model_ema", "state_dict_ema"] {
        let state_dict =
            read(&file(&[optimizer.clone(), nested(key, &[weight("head.bias")])])).unwrap();
        assert!(state_dict.keys().eq(["head.bias"]), "{key}: {state_dict:?}");
    }
    assert!(read(&file(&[weight("module.head.bias")])).unwrap().keys().eq(["head.bias"]));
    let mixed = read(&file(&[weight("module.bias"), weight("bias")])).unwrap();
    assert!(mixed.keys().eq(["bias", "module.bias"])); // not a wrapper: a part called `module`

    let ema = nested("model_ema", &[weight("module.ema")]);
    let both = file(&[ema, nested("model", &[weight("module.live")])]);
    assert!(read(&both).unwrap().keys().eq(["live"]));
    assert!(read_from(&both, Some("model_ema")).unwrap().keys().eq(["ema"]));

    let unknown = file(&[nested("net", &[weight("head.bias")]), optimizer]);
    let message = read(&unknown).unwrap_err().to_string();
    assert!(message.contains("found `net`, `optimizer`"), "{message}");
    let message = read(&file(&[])).unwrap_err().to_string();
    assert!(message.contains("found no tensors"), "{message}");
    let message =
        read(&file(&[tensor("steps", "IntStorage", 1, &[], &[])])).unwrap_err().to_string();
    assert!(message.contains("no floating-point tensors"), "{message}");
}

#[test]
fn a_call_in_a_pickle_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("executed");
    let argument = text(&format!("touch {}", trace.display()));
    for callable in [b"cos\nsystem\n".as_slice(), b"cbuiltins\nexec\n", b"csubprocess\ngetoutput\n"]
    {
        let call = [callable, &argument, b"\x85R"].concat();
        let storage = 1f32.to_le_bytes();
        let weights = tensor("head.bias", "FloatStorage", 1, &[], &[]);
        // As the whole checkpoint, and hidden beside weights that are good.
        assert!(read(&zip(&[b"\x80\x02", &call[..], b"."].concat(), &storage, STORED)).is_err());
        let beside = zip(&pickle(&[weights, ("payload".to_owned(), call)]), &storage, STORED);
        assert!(read(&beside).unwrap().keys().eq(["head.bias"]));
    }
    assert!(!trace.exists());
}

#[test]
fn views_cannot_ask_for_more_than_the_file_explains() {
    let storage = 1f32.to_le_bytes();
    let one = tensor("a", "FloatStorage", 1, &[2_500_000_000], &[0]); // 10 GB, within the reader's bound
    let view = |index| tensor(&format!("view.{index}"), "FloatStorage", 1, &[1 << 20], &[0]);
    let many = (0..1000).map(view).collect();
    for tensors in [vec![one], many] {
        let message = read(&zip(&pickle(&tensors), &storage, STORED)).unwrap_err().to_string();
        assert!(message.contains("bytes of memory"), "{message}");
    }
    // Integers are never read out, and a modest broadcast in a small file is legitimate.
    let index = tensor("index", "LongStorage", 0, &[1 << 40, 0], &[0, 0]);
    let mask = tensor("mask", "FloatStorage", 1, &[1 << 20], &[0]);
    assert_eq!(
        read(&zip(&pickle(&[index, mask]), &storage, STORED)).unwrap()["mask"].data.len(),
        1 << 20
    );
}

#[test]
fn compressed_archives_are_refused() {
    let weights = pickle(&[tensor("head.bias", "FloatStorage", 1, &[], &[])]);
    let message = read(&zip(&weights, &1f32.to_le_bytes(), DEFLATED)).unwrap_err().to_string();
    assert!(message.contains("compressed"), "{message}");
}

#[test]
fn safetensors_headers_cannot_lie() {
    let entry = |dtype: &str, shape: &str, end: u64| {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    assert!(read(&safetensors(&entry("F32", "[2]", 8), &[0; 8])).is_ok());
    let lies = [
        safetensors(&entry("F32", "[3]", 8), &[0; 8]),
        safetensors(&entry("F32", "[2]", 8), &[0; 7]),
        safetensors(&entry("F32", "[2]", 8), &[0; 9]),
        safetensors(&entry("F32", "[4611686018427387904,4]", 16), &[0; 16]),
        safetensors(&entry("F32", "[2]", u64::MAX), &[0; 8]),
        safetensors(&entry("F8_E4M3", "[8]", 8), &[0; 8]),
        safetensors("{\"w\": nonsense}", &[]),
        safetensors("{}", &[]),
        [&u64::MAX.to_le_bytes()[..], b"{}"].concat(),
        [&99_999_999u64.to_le_bytes()[..], b"{}"].concat(),
    ];
    for bytes in lies {
        let message = read(&bytes).unwrap_err().to_string();
        assert!(message.len() < 600, "{message}");
    }
    let keyed =
        read_from(&safetensors(&entry("F32", "[2]", 8), &[0; 8]), Some("model")).unwrap_err();
    assert!(keyed.to_string().contains("leave out the key `model`"), "{keyed}");
}

proptest! {
    // Proptest's default of 256 cases takes a second. PROPTEST_CASES=30000 passed in 1.5 GB of memory.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Changed bytes, a doubled or missing piece and a cut end, in every format.
    #[test]
    fn damage_is_an_error_or_a_state_dict(
        seed in any::<Index>(),
        edits in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        near_start in any::<bool>(),
        splice in prop::option::of([any::<Index>(), any::<Index>(), any::<Index>()]),
        cut in prop::option::weighted(0.3, any::<Index>()),
    ) {
        let mut bytes = seed.get(&seeds()).clone();
        if let Some([from, to, at]) = splice {
            let piece = bytes[from.index(bytes.len())..].iter().take(to.index(400)).copied().collect::<Vec<_>>();
            let at = at.index(bytes.len());
            bytes.splice(at..(at + piece.len() / 2).min(bytes.len()), piece);
        }
        for (position, value) in edits {
            // Headers and pickles are short beside the weights, so half of the cases aim at them.
            let range = if near_start { bytes.len().min(2000) } else { bytes.len() };
            bytes[position.index(range)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let file = Scratch::new(&bytes);
        let _ = read_metadata(file.path());
        if let Ok(state_dict) = read_state_dict(file.path()) {
            let elements: usize = state_dict.values().map(|tensor| tensor.data.len()).sum();
            prop_assert!(elements * 4 <= (bytes.len() * 8).max(64 << 20));
            for tensor in state_dict.values() {
                prop_assert_eq!(tensor.data.len(), tensor.shape.iter().product::<usize>());
            }
        }
    }
}

/// One good file of each format, small so that damage hits what matters, and the recorded ones if
/// they are there.
fn seeds() -> Vec<Vec<u8>> {
    let weights = pickle(&[
        nested(
            "model",
            &[
                tensor("head.weight", "FloatStorage", 4, &[2, 2], &[1, 2]),
                tensor("head.bias", "FloatStorage", 4, &[2], &[3]),
                tensor("head.scale", "FloatStorage", 4, &[], &[]),
            ],
        ),
        (
            "args".to_owned(),
            [b"cargparse\nNamespace\n)\x81}", &text("lr")[..], b"K\x01sb"].concat(),
        ),
    ]);
    let storage = [0x3f; 16];
    let header =
        r#"{"__metadata__":{"a":"b"},"w":{"dtype":"BF16","shape":[2,4],"data_offsets":[0,16]}}"#;
    let mut seeds = vec![
        zip(&weights, &storage, STORED),
        zip(&weights, &storage, DEFLATED),
        legacy(&weights, &storage),
        safetensors(header, &storage),
    ];
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    for name in
        ["ckpt_mini_fp16.pth", "ckpt_mini_legacy_format.pth", "ckpt_mini_strided_prefixed.pth"]
    {
        seeds.push(fs::read(recorded.join(name)).unwrap());
    }
    seeds
}

fn read(bytes: &[u8]) -> Result<StateDict> {
    read_from(bytes, None)
}

fn read_from(bytes: &[u8], key: Option<&str>) -> Result<StateDict> {
    read_state_dict_from(Scratch::new(bytes).path(), key)
}

/// A file that is gone at the end of its scope.
struct Scratch(tempfile::NamedTempFile);

impl Scratch {
    fn new(bytes: &[u8]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        Self(file)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}
