//! `--compare`: what an earlier run took for the same cases.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use biformer::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use crate::commands::plural;
use crate::progress::say;

/// The results of an earlier run.
#[derive(Debug)]
pub(super) struct Former {
    file: PathBuf,
    times: Vec<(Key, f64)>,
}

/// What must be the same for two results to be compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Key {
    bench: String,
    /// Model, segmentor, operator or data set.
    subject: String,
    batch_size: u64,
    img_size: String,
    threads: u64,
    precision: String,
    device: String,
    /// Those of [`SETTINGS`] that there are.
    settings: [Option<u64>; 6],
}

/// Keys, and how they are told: channels, heads, S and k of an operator, windows of a segmentor.
const SETTINGS: [(&str, &str); 6] = [
    ("dim", "dim"),
    ("num_heads", "heads"),
    ("n_win", "S"),
    ("topk", "k"),
    ("crop_size", "windows of"),
    ("stride", "every"),
];

/// Before and after.
#[derive(Serialize)]
pub(super) struct Comparison {
    file: String,
    cases: Vec<Pair>,
    /// Measured now, but not in the file.
    only_now: Vec<String>,
    /// In the file, but not measured now.
    only_before: Vec<String>,
}

#[derive(Serialize)]
struct Pair {
    case: String,
    before_ms: f64,
    after_ms: f64,
    /// Above 1: faster now.
    speedup: f64,
}

impl Former {
    /// A JSON object, an array of them or a line each; an object may hold several in `results`. Of results
    /// of the same case the last one counts.
    ///
    /// # Errors
    /// [`Error::Option`] that names file, line and key.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).map_err(|error| Error::io("read", file, error))?;
        let times = parse(&text).map_err(|reason| {
            Error::option("compare", format!("`{}`: {reason}", file.display()))
        })?;
        Ok(Self { file: file.to_owned(), times })
    }

    /// Finds the partners of `results`.
    pub fn compare(self, results: &[Value]) -> Result<Comparison> {
        let now = results.iter().map(time).collect::<Result<Vec<_>, _>>();
        let now = now.map_err(|reason| Error::option("compare", reason))?;
        let mut cases = Vec::new();
        let mut only_now = Vec::new();
        for (key, after_ms) in &now {
            match self.times.iter().rev().find(|(former, _)| former == key) {
                Some(&(_, before_ms)) => {
                    let (case, after_ms) = (key.to_string(), *after_ms);
                    cases.push(Pair { case, before_ms, after_ms, speedup: before_ms / after_ms });
                }
                None => only_now.push(key.to_string()),
            }
        }
        let is_gone = |key: &&Key| now.iter().all(|(other, _)| other != *key);
        let mut only_before: Vec<String> =
            self.times.iter().map(|(key, _)| key).filter(is_gone).map(Key::to_string).collect();
        only_before.sort();
        only_before.dedup();
        Ok(Comparison { file: self.file.display().to_string(), cases, only_now, only_before })
    }
}

impl Comparison {
    /// The table, on stderr.
    pub fn show(&self) {
        say(format!(
            "\nagainst {}\n{:>10} {:>10} {:>8}",
            self.file, "before ms", "after ms", "ratio"
        ));
        for Pair { case, before_ms, after_ms, speedup } in &self.cases {
            say(format!("{before_ms:>10.3} {after_ms:>10.3} {speedup:>8.3}  {case}"));
        }
        for (cases, place) in [(&self.only_now, "measured now"), (&self.only_before, "in the file")]
        {
            for case in cases {
                say(format!("only {place}: {case}"));
            }
        }
    }
}

/// The results in a text, or what is wrong with it.
fn parse(text: &str) -> Result<Vec<(Key, f64)>, String> {
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        return times(&value);
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let mut found = Vec::new();
    for (number, line) in lines {
        let at = |reason: String| format!("line {}: {reason}", number + 1);
        let value = serde_json::from_str(line).map_err(|error| at(format!("no JSON: {error}")))?;
        found.extend(times(&value).map_err(at)?);
    }
    if found.is_empty() { Err("holds no results".to_owned()) } else { Ok(found) }
}

fn times(value: &Value) -> Result<Vec<(Key, f64)>, String> {
    match value.get("results").unwrap_or(value) {
        Value::Array(results) => {
            let numbered = results.iter().enumerate();
            let numbered = numbered.map(|(number, result)| {
                time(result).map_err(|reason| format!("result {}: {reason}", number + 1))
            });
            numbered.collect()
        }
        result => Ok(vec![time(result)?]),
    }
}

/// The median of one result, and what it is of.
fn time(result: &Value) -> Result<(Key, f64), String> {
    if !result.is_object() {
        return Err(format!("expected an object of `biformer benchmark`, found {result}"));
    }
    let wrong = |key: &str, expected: &str| match result.get(key) {
        Some(found) => format!("key `{key}`: expected {expected}, found {found}"),
        None => format!("key `{key}` is missing"),
    };
    let text =
        |key: &str| result[key].as_str().map(str::to_owned).ok_or_else(|| wrong(key, "a text"));
    let count = |key: &str| result[key].as_u64().ok_or_else(|| wrong(key, "a whole number"));
    let median_ms = result["median_ms"].as_f64().filter(|&ms| ms > 0.0);
    let median_ms = median_ms.ok_or_else(|| wrong("median_ms", "milliseconds"))?;
    let or = |key: &str, default: &str| result[key].as_str().unwrap_or(default).to_owned();
    let bench = text("bench")?;
    let subject = text(if bench == "loader" { "data" } else { "model" })?;
    let key = Key {
        subject: match result["method"].as_str() {
            Some(method) => format!("{method} on {subject}"),
            None => subject,
        },
        batch_size: count("batch_size")?,
        img_size: match &result["img_size"] {
            Value::Number(side) => side.to_string(),
            Value::String(sides) => sides.clone(),
            _ => return Err(wrong("img_size", "a size as in 224 or \"200x336\"")),
        },
        threads: count("threads")?,
        // Once there was nothing else, and files did not say so.
        precision: or("precision", "f32"),
        device: or("device", "cpu"),
        settings: SETTINGS.map(|(key, _)| result[key].as_u64()),
        bench,
    };
    Ok((key, median_ms))
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bench, subject, batch_size, img_size, threads, precision, device, .. } = self;
        write!(f, "{bench} {subject}, batch {batch_size}, {img_size}, ")?;
        write!(f, "{}, {precision}, {device}", plural(*threads as usize, "thread"))?;
        for ((_, name), value) in SETTINGS.into_iter().zip(self.settings) {
            if let Some(value) = value {
                write!(f, ", {name} {value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(model: &str, batch_size: u64, median_ms: f64) -> Value {
        json!({ "bench": "inference", "model": model, "batch_size": batch_size, "img_size": 224,
                "threads": 2, "precision": "f32", "device": "cpu", "median_ms": median_ms })
    }

    fn former(text: &str) -> Former {
        Former { file: "old.json".into(), times: parse(text).expect("results") }
    }

    #[test]
    fn partners_are_alike_in_all_that_matters() {
        let old = json!({ "bench": "inference", "results": [
            result("biformer_tiny", 1, 90.0), result("biformer_base", 1, 500.0),
            result("biformer_tiny", 8, 600.0)] });
        let now = [result("biformer_tiny", 8, 400.0), result("biformer_small", 1, 90.0)];
        let found = former(&old.to_string()).compare(&now).unwrap();
        assert_eq!(found.cases.len(), 1);
        let Pair { case, before_ms, after_ms, speedup } = &found.cases[0];
        assert_eq!(case, "inference biformer_tiny, batch 8, 224, 2 threads, f32, cpu");
        assert_eq!((*before_ms, *after_ms, *speedup), (600.0, 400.0, 1.5));
        assert_eq!(found.only_now, ["inference biformer_small, batch 1, 224, 2 threads, f32, cpu"]);
        assert_eq!(found.only_before.len(), 2);
        assert!(found.only_before[0].contains("biformer_base"), "{:?}", found.only_before);
    }

    #[test]
    fn one_difference_parts_them() {
        let old = former(&result("biformer_tiny", 1, 90.0).to_string());
        let changes = [
            ("bench", json!("train")),
            ("model", json!("biformer_base")),
            ("batch_size", json!(2)),
            ("img_size", json!("224x256")),
            ("threads", json!(1)),
            ("precision", json!("bf16")),
            ("device", json!("vulkan")),
            ("topk", json!(4)),
            ("method", json!("upernet")),
            ("crop_size", json!(512)),
        ];
        for (key, value) in changes {
            let mut now = result("biformer_tiny", 1, 45.0);
            now[key] = value;
            let (key, _) = time(&now).unwrap();
            assert!(old.times.iter().all(|(former, _)| *former != key), "{key}");
        }
    }

    /// A log of several runs has a line each; the last of them is the one to beat.
    #[test]
    fn lines_of_several_runs() {
        let lines = [30.0, 20.0].map(|ms| result("biformer_nano", 1, ms).to_string());
        let now = [result("biformer_nano", 1, 10.0)];
        let found = former(&lines.join("\n\n")).compare(&now).unwrap();
        assert_eq!((found.cases.len(), found.cases[0].speedup), (1, 2.0));
        assert!(found.only_before.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |key: &str, value: Value| {
            let mut result = result("biformer_nano", 1, 30.0);
            result[key] = value;
            result
        };
        let array = json!([result("biformer_nano", 1, 30.0), with("median_ms", json!("fast"))]);
        let good = result("biformer_nano", 1, 30.0);
        for (text, expected) in [
            (String::new(), "holds no results"),
            ("fast".to_owned(), "line 1: no JSON"),
            (format!("{good}\n{{"), "line 2: no JSON"),
            ("{}".to_owned(), "key `median_ms` is missing"),
            ("7".to_owned(), "found 7"),
            (array.to_string(), "result 2: key `median_ms`: expected milliseconds, found \"fast\""),
            (with("img_size", json!([224])).to_string(), "key `img_size`: expected a size"),
            (
                with("batch_size", json!(-1)).to_string(),
                "key `batch_size`: expected a whole number",
            ),
            (with("model", json!(null)).to_string(), "key `model`: expected a text, found null"),
        ] {
            let reason = parse(&text).expect_err(&text);
            assert!(reason.contains(expected), "`{text}`: {reason}");
        }
    }
}
