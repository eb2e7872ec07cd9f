//! Makes small checkpoints byte by byte, including those that no honest program would write.

/// A ZIP entry kept as it is, as `torch.save` does.
pub const STORED: u16 = 0;
/// A ZIP entry that claims to be compressed.
pub const DEFLATED: u16 = 8;

/// A key of the pickled dictionary, and the opcodes that push its value.
pub type Entry = (String, Vec<u8>);

/// A view of storage `0`, which holds `numel` elements of the given class.
pub fn tensor(name: &str, storage: &str, numel: i64, shape: &[i64], stride: &[i64]) -> Entry {
    let integers = |values: &[i64]| values.iter().flat_map(|&value| int(value)).collect::<Vec<_>>();
    let value = [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        format!("ctorch\n{storage}\n").into_bytes(),
        text("0"),
        text("cpu"),
        int(numel),
        b"tQ".to_vec(), // the storage, by its persistent id
        int(0),         // offset
        [b"(", &integers(shape)[..], b"t"].concat(),
        [b"(", &integers(stride)[..], b"t"].concat(),
        b"\x89ccollections\nOrderedDict\n)RtR".to_vec(), // requires_grad, hooks; build
    ];
    (name.to_owned(), value.concat())
}

/// A dictionary as the value of `key`.
pub fn nested(key: &str, entries: &[Entry]) -> Entry {
    (key.to_owned(), dictionary(entries))
}

/// A pickle of a dictionary, protocol 2.
pub fn pickle(entries: &[Entry]) -> Vec<u8> {
    [b"\x80\x02", &dictionary(entries)[..], b"."].concat()
}

/// The layout of `torch.save` since PyTorch 1.6, every entry with the given compression method.
pub fn zip(pickle: &[u8], storage: &[u8], method: u16) -> Vec<u8> {
    let entries = [("archive/data.pkl", pickle), ("archive/data/0", storage)];
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let size = (data.len() as u32).to_le_bytes();
        let mut fields = [20u16.to_le_bytes(), [0; 2], method.to_le_bytes()].concat();
        fields.extend([0; 8]); // time, date and a checksum of 0, which means that there is none
        fields.extend([size, size].concat());
        fields.extend((name.len() as u16).to_le_bytes());
        fields.extend([0; 2]); // no extra field
        let offset = (file.len() as u32).to_le_bytes();
        file.extend([b"PK\x03\x04", &fields[..], name.as_bytes(), data].concat());
        directory.extend(
            [b"PK\x01\x02\x14\0", &fields[..], &[0; 10], &offset, name.as_bytes()].concat(),
        );
    }
    let start = (file.len() as u32).to_le_bytes();
    let length = (directory.len() as u32).to_le_bytes();
    let end = [b"PK\x05\x06\0\0\0\0\x02\0\x02\0", &length[..], &start, &[0; 2]].concat();
    [file, directory, end].concat()
}

/// The layout of `torch.save` before 1.6: magic, version, system, pickle, storage keys, storages.
/// Storage `0` must be declared with as many elements as `storage` holds f32.
pub fn legacy(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let version = b"\x80\x02M\xe9\x03.";
    let system = [b"\x80\x02}", &text("little_endian")[..], b"\x88s."].concat();
    let keys = [b"\x80\x02]", &text("0")[..], b"a."].concat();
    let elements = (storage.len() as u64 / 4).to_le_bytes();
    [magic, &version[..], &system, pickle, &keys, &elements, storage].concat()
}

/// A safetensors file with any header.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// The opcodes that push a string.
pub fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn int(value: i64) -> Vec<u8> {
    [b"\x8a\x08", &value.to_le_bytes()[..]].concat()
}

fn dictionary(entries: &[Entry]) -> Vec<u8> {
    let items = entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat());
    [b"}(", &items.collect::<Vec<_>>()[..], b"u"].concat()
}
