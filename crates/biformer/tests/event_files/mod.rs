//! Reads event files as TensorBoard does, written from the descriptions of the formats alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The points of each curve: tag → step → value.
pub type Curves = BTreeMap<String, BTreeMap<u64, f32>>;

/// The event files of a folder in TensorBoard's order, that of their names.
pub fn event_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let is_event_file = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_str().expect("UTF-8");
        name.starts_with("events.out.tfevents.")
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_event_file).collect();
    files.sort();
    files
}

/// All files of a folder as one; a start drops the points from its step on. Panics where a point
/// is told twice.
pub fn read_curves(folder: &Path) -> Curves {
    let mut curves = Curves::new();
    for path in event_files(folder) {
        let bytes = fs::read(&path).expect("an event file");
        let events = records(&bytes);
        assert_eq!(field(&events[0], 3), Some(&Value::Bytes(b"brain.Event:2".to_vec())));
        for event in events {
            let step = match field(&event, 2) {
                Some(Value::Varint(step)) => *step,
                other => panic!("step: {other:?}"),
            };
            assert!(matches!(field(&event, 1), Some(Value::Double(seconds)) if *seconds > 1.6e9));
            if let Some(Value::Bytes(session_log)) = field(&event, 7) {
                assert_eq!(field(&message(session_log), 1), Some(&Value::Varint(1)), "START");
                for curve in curves.values_mut() {
                    curve.retain(|&before, _| before < step);
                }
            }
            if let Some(Value::Bytes(summary)) = field(&event, 5) {
                for (number, value) in message(summary) {
                    let (1, Value::Bytes(value)) = (number, value) else { panic!("a summary") };
                    let (tag, scalar) = scalar(&message(&value));
                    let before = curves.entry(tag.clone()).or_default().insert(step, scalar);
                    assert_eq!(before, None, "`{tag}` is told twice at {step}");
                }
            }
        }
    }
    curves
}

fn scalar(value: &Fields) -> (String, f32) {
    match (field(value, 1), field(value, 2)) {
        (Some(Value::Bytes(tag)), Some(Value::Float(scalar))) => {
            (String::from_utf8(tag.clone()).expect("UTF-8"), *scalar)
        }
        other => panic!("a tag and a number: {other:?}"),
    }
}

/// The messages of a file, checksums compared.
fn records(mut bytes: &[u8]) -> Vec<Fields> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_at(8);
        let (length_checksum, rest) = rest.split_at(4);
        assert_eq!(length_checksum, masked_crc32c(length).to_le_bytes(), "checksum of a length");
        let length = u64::from_le_bytes(length.try_into().expect("8 bytes"));
        let (content, rest) = rest.split_at(length as usize);
        let (checksum, rest) = rest.split_at(4);
        assert_eq!(checksum, masked_crc32c(content).to_le_bytes(), "checksum of a message");
        records.push(message(content));
        bytes = rest;
    }
    records
}

fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Bit by bit, with the reflected Castagnoli polynomial.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[derive(Debug, PartialEq)]
enum Value {
    Varint(u64),
    Double(f64),
    Bytes(Vec<u8>),
    Float(f32),
}

/// Numbers and values of the fields of a protobuf message.
type Fields = Vec<(u64, Value)>;

fn field(fields: &Fields, number: u64) -> Option<&Value> {
    fields.iter().find(|field| field.0 == number).map(|field| &field.1)
}

fn message(mut bytes: &[u8]) -> Fields {
    let mut fields = Fields::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut bytes)),
            1 => Value::Double(f64::from_le_bytes(take(&mut bytes, 8).try_into().expect("8"))),
            2 => {
                let length = varint(&mut bytes);
                Value::Bytes(take(&mut bytes, length as usize).to_vec())
            }
            5 => Value::Float(f32::from_le_bytes(take(&mut bytes, 4).try_into().expect("4"))),
            wire => panic!("wire type {wire}"),
        };
        fields.push((key >> 3, value));
    }
    fields
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, tail) = bytes.split_at(count);
    *bytes = tail;
    head
}

#[test]
fn the_checksum_is_that_of_rfc_3720() {
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa); // RFC 3720, B.4
}
