//! Run lengths as COCO's files have them: a list, or characters of six bits each.
//!
//! In text, the third length and all after it stand as the difference from the length two before. A
//! number is cut into digits of five bits, least first; the sixth bit says that more digits follow, and the
//! last digit carries the sign. 48 is added to make a printable character.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::rle::Rle;

/// An [`Rle`] in a file.
#[derive(Serialize, Deserialize)]
pub(super) struct RleFile {
    size: [u32; 2],
    counts: Counts,
}

/// The lengths.
struct Counts(Vec<u32>);

impl TryFrom<RleFile> for Rle {
    type Error = String;

    fn try_from(file: RleFile) -> Result<Self, String> {
        Self::from_counts(file.size, file.counts.0)
    }
}

impl From<Rle> for RleFile {
    fn from(rle: Rle) -> Self {
        Self { size: rle.size(), counts: Counts(rle.counts().to_vec()) }
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_text(&self.0))
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountsVisitor)
    }
}

struct CountsVisitor;

impl<'de> Visitor<'de> for CountsVisitor {
    type Value = Counts;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("lengths of runs, as a list or as COCO's text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Counts, E> {
        from_text(text).map(Counts).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Counts, A::Error> {
        let mut counts = Vec::new();
        while let Some(count) = list.next_element()? {
            counts.push(count);
        }
        Ok(Counts(counts))
    }
}

const BITS: u32 = 5;
const DIGIT: i64 = 0x1f;
const SIGN: i64 = 0x10;
const MORE: u8 = 0x20;
const FIRST: u8 = 48;

fn to_text(counts: &[u32]) -> String {
    let mut text = String::new();
    for (place, &count) in counts.iter().enumerate() {
        let mut number = i64::from(count) - before(counts, place);
        loop {
            let digit = number & DIGIT;
            number >>= BITS;
            // The sign goes on for ever; it ends where the digits say the same.
            let is_last = number == if digit & SIGN == 0 { 0 } else { -1 };
            text.push(char::from(FIRST + digit as u8 + if is_last { 0 } else { MORE }));
            if is_last {
                break;
            }
        }
    }
    text
}

fn from_text(text: &str) -> Result<Vec<u32>, String> {
    let mut counts = Vec::new();
    let (mut number, mut shift) = (0, 0);
    for character in text.bytes() {
        let Some(six) = character.checked_sub(FIRST).filter(|&six| six < 2 * MORE) else {
            return Err(format!(
                "`counts` holds `{}`, which is no digit",
                character.escape_ascii()
            ));
        };
        if shift > 6 * BITS {
            return Err(format!("run {} of `counts` is longer than a picture", counts.len()));
        }
        let digit = i64::from(six) & DIGIT;
        number |= digit << shift;
        shift += BITS;
        if six & MORE == 0 {
            if digit & SIGN != 0 {
                number |= -1 << shift;
            }
            let count = number + before(&counts, counts.len());
            let wrong = |_| format!("run {} of `counts` has length {count}", counts.len());
            counts.push(u32::try_from(count).map_err(wrong)?);
            (number, shift) = (0, 0);
        }
    }
    match shift {
        0 => Ok(counts),
        _ => Err("`counts` ends in the middle of a number".to_owned()),
    }
}

/// What the length at `place` is a difference from.
fn before(counts: &[u32], place: usize) -> i64 {
    if place > 2 { i64::from(counts[place - 2]) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From pycocotools: an empty mask of 20 pixels, a full one, one of many runs.
    #[test]
    fn text_by_pycocotools() {
        assert_eq!((to_text(&[20]), to_text(&[0, 20])), ("d0".to_owned(), "0d0".to_owned()));
        let counts = [10, 5, 3, 100, 2, 1, 40_000];
        assert_eq!(from_text(&to_text(&counts)).unwrap(), counts);
    }

    #[test]
    fn wrong_text_is_refused() {
        for (text, words) in [
            ("0 1", "no digit"),
            ("1\u{e9}", "no digit"),
            ("d", "middle of a number"),
            ("oooooooo0", "longer than a picture"),
            ("O", "length -1"),
        ] {
            let error = from_text(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        let longer = serde_json::from_str::<Rle>(r#"{"size": [2, 3], "counts": [4, 3]}"#);
        assert!(longer.unwrap_err().to_string().contains("runs of 7 pixels, expected 2 x 3"));
    }
}
