//! Curves of a run that may be going on: its journals are read to their end again and again, and kept thinned.

use anyhow::{Context, Result};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

/// Buckets of a curve, at most; each is two points.
const BUCKETS: usize = 1000;
/// Bytes that are read at a time.
const CHUNK: usize = 8 << 20;
/// Bytes before the place that was read to, by which a file that was cut and has grown again is told.
const TAIL: usize = 64;

/// All curves of a journal, as far as it is written.
#[derive(Debug, Default)]
pub struct Curves {
    by_name: Vec<(String, Curve)>,
    /// Bytes that were read, to the end of a line, and the last of them.
    read: u64,
    tail: Vec<u8>,
    last_step: u64,
}

/// A curve: of neighbouring steps the least and the greatest value.
#[derive(Debug, Default)]
struct Curve {
    /// Values of a bucket.
    width: usize,
    buckets: Vec<Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    count: usize,
    low: (u64, f64),
    high: (u64, f64),
}

/// A point: step and value.
pub type Point = (u64, f64);

/// What is told of a journal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    /// The last step in it.
    pub step: u64,
    /// By name, in the order of the journal: at most 2,000 points, by step.
    pub curves: Vec<(String, Vec<Point>)>,
}

impl Curve {
    fn push(&mut self, step: u64, value: f64) {
        let point = (step, value);
        if let Some(last) = self.buckets.last_mut().filter(|last| last.count < self.width) {
            last.count += 1;
            last.low = if value < last.low.1 { point } else { last.low };
            last.high = if value > last.high.1 { point } else { last.high };
            return;
        }
        if self.buckets.len() == BUCKETS {
            self.halve();
            return self.push(step, value);
        }
        self.width = self.width.max(1);
        self.buckets.push(Bucket { count: 1, low: point, high: point });
    }

    /// Makes one bucket of two.
    fn halve(&mut self) {
        let merge = |pair: &[Bucket]| {
            let (first, last) = (pair[0], pair[pair.len() - 1]);
            Bucket {
                count: pair.iter().map(|bucket| bucket.count).sum(),
                low: if last.low.1 < first.low.1 { last.low } else { first.low },
                high: if last.high.1 > first.high.1 { last.high } else { first.high },
            }
        };
        self.buckets = self.buckets.chunks(2).map(merge).collect();
        self.width *= 2;
    }

    fn points(&self) -> Vec<Point> {
        let both = |bucket: &Bucket| {
            let (low, high) = (bucket.low, bucket.high);
            let ordered = if low.0 <= high.0 { [low, high] } else { [high, low] };
            let n = if low.0 == high.0 { 1 } else { 2 };
            ordered.into_iter().take(n)
        };
        self.buckets.iter().flat_map(both).collect()
    }
}

impl Curves {
    /// Reads what was written to the journal at `path` since the last time. A file that is not there is empty; one
    /// that was cut, as a run that goes on cuts it, is read anew, so that no step is told twice. A last line that is
    /// not ended waits.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn follow(&mut self, path: &Path) -> Result<()> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                *self = Curves::default();
                return Ok(());
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let what = || format!("cannot read {}", path.display());
        let len = file.metadata().with_context(what)?.len();
        if len < self.read || !self.still_begins(&mut file).with_context(what)? {
            *self = Curves::default();
        }
        file.seek(SeekFrom::Start(self.read)).with_context(what)?;
        let mut text = Vec::new();
        loop {
            let held = text.len();
            let n = file.by_ref().take(CHUNK as u64).read_to_end(&mut text).with_context(what)?;
            let whole = text[held..].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| held + at + 1);
            self.add(&text[..whole]);
            text.drain(..whole);
            if n == 0 {
                return Ok(());
            }
        }
    }

    /// Whether the file still has before our place what it had.
    fn still_begins(&self, file: &mut File) -> std::io::Result<bool> {
        let mut found = vec![0; self.tail.len()];
        file.seek(SeekFrom::Start(self.read - self.tail.len() as u64))?;
        file.read_exact(&mut found)?;
        Ok(found == self.tail)
    }

    fn add(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        let mut values = Vec::new();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            values.clear();
            // A line that cannot be read is told of by the run's own page.
            let Ok(step) = numbers(line, &mut values) else { continue };
            self.last_step = step;
            for (at, (name, value)) in values.iter().enumerate() {
                self.curve(name, at).push(step, *value);
            }
        }
        self.read += text.len() as u64;
        self.tail = text[text.len().saturating_sub(TAIL)..].to_vec();
    }

    /// The curve of a name, which most lines have at the same place.
    fn curve(&mut self, name: &str, at: usize) -> &mut Curve {
        let is_at = self.by_name.get(at).is_some_and(|(known, _)| known == name);
        let found = if is_at { Some(at) } else { self.by_name.iter().position(|(known, _)| known == name) };
        let at = found.unwrap_or_else(|| {
            self.by_name.push((name.to_owned(), Curve::default()));
            self.by_name.len() - 1
        });
        &mut self.by_name[at].1
    }

    /// The curves as they are now.
    pub fn told(&self) -> Told {
        let curves = self.by_name.iter().map(|(name, curve)| (name.clone(), curve.points())).collect();
        Told { step: self.last_step, curves }
    }

    /// The middle one of the last values of a curve.
    pub fn recent(&self, name: &str) -> Option<f64> {
        let (_, curve) = self.by_name.iter().find(|(known, _)| known == name)?;
        let mut last: Vec<f64> = curve.buckets.iter().rev().take(9).map(|bucket| bucket.low.1).collect();
        last.sort_by(f64::total_cmp);
        last.get(last.len() / 2).copied()
    }
}

/// The numbers of a line, and its step. Nothing is allocated for what is no number, so that a million lines take
/// less than a second.
fn numbers<'l>(line: &'l [u8], values: &mut Vec<(&'l str, f64)>) -> serde_json::Result<u64> {
    struct Line<'v, 'l>(&'v mut Vec<(&'l str, f64)>);
    /// A number, or something else.
    struct Number(Option<f64>);

    impl<'de> Deserialize<'de> for Number {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
            struct Any;
            impl<'de> Visitor<'de> for Any {
                type Value = Number;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a value")
                }
                fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                    Ok(Number(Some(value)))
                }
                fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                    Ok(Number(Some(value as f64)))
                }
                fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
                    Ok(Number(Some(value as f64)))
                }
                fn visit_bool<E>(self, _: bool) -> Result<Number, E> {
                    Ok(Number(None))
                }
                fn visit_str<E>(self, _: &str) -> Result<Number, E> {
                    Ok(Number(None))
                }
                fn visit_unit<E>(self) -> Result<Number, E> {
                    Ok(Number(None))
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Number, A::Error> {
                    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    Ok(Number(None))
                }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Number, A::Error> {
                    while seq.next_element::<IgnoredAny>()?.is_some() {}
                    Ok(Number(None))
                }
            }
            deserializer.deserialize_any(Any)
        }
    }

    impl<'l> Visitor<'l> for Line<'_, 'l> {
        type Value = u64;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'l>>(self, mut map: A) -> Result<u64, A::Error> {
            let mut step = None;
            while let Some(name) = map.next_key::<&'l str>()? {
                match (name, map.next_value::<Number>()?) {
                    ("step", Number(Some(value))) => step = Some(value as u64),
                    (name, Number(Some(value))) if value.is_finite() => self.0.push((name, value)),
                    _ => {}
                }
            }
            step.ok_or_else(|| serde::de::Error::missing_field("step"))
        }
    }

    serde_json::Deserializer::from_slice(line).deserialize_map(Line(values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::time::Instant;

    fn line(step: u64) -> String {
        format!(
            "{{\"step\":{step},\"loss\":{},\"lr\":0.001,\"note\":\"x\",\"more\":{{\"a\":[1]}}}}\n",
            1.0 / step as f64
        )
    }

    fn points<'t>(told: &'t Told, name: &str) -> &'t [Point] {
        &told.curves.iter().find(|(known, _)| known == name).unwrap().1
    }

    #[test]
    fn what_is_written_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut curves = Curves::default();
        curves.follow(&path).unwrap();
        assert_eq!(curves.told().curves, []);
        fs::write(&path, (1..=10).map(line).collect::<String>() + "{\"step\":11,\"lo").unwrap();
        curves.follow(&path).unwrap();
        assert_eq!(points(&curves.told(), "loss").len(), 10, "half a line waits");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"ss\":0.5,\"lr\":0.001}\n").unwrap();
        curves.follow(&path).unwrap();
        assert_eq!(points(&curves.told(), "loss").last(), Some(&(11, 0.5)));
        assert_eq!(curves.told().step, 11);
        assert!(curves.told().curves.iter().all(|(name, _)| name != "note" && name != "more"));
    }

    #[test]
    fn a_run_that_goes_on_has_no_step_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        // Cut to a checkpoint, and written again between two looks: shorter, as long, and longer than it was.
        for end in [60, 100, 130] {
            let mut curves = Curves::default();
            fs::write(&path, (1..=100).map(line).collect::<String>()).unwrap();
            curves.follow(&path).unwrap();
            let again = |step: u64| if step > 50 { line(step).replace("0.001", "0.002") } else { line(step) };
            fs::write(&path, (1..=end).map(again).collect::<String>()).unwrap();
            curves.follow(&path).unwrap();
            let told = curves.told();
            let steps: Vec<u64> = points(&told, "lr").iter().map(|point| point.0).collect();
            assert_eq!(steps, (1..=end).collect::<Vec<_>>());
            assert_eq!(points(&told, "lr")[99.min(end as usize - 1)].1, 0.002);
        }
    }

    #[test]
    fn all_buckets_but_the_last_are_full() {
        let mut curve = Curve::default();
        for step in 1..=10_500 {
            curve.push(step, (step as f64).sin());
            let (last, full) = curve.buckets.split_last().unwrap();
            assert!(full.iter().all(|bucket| bucket.count == curve.width), "after {step}");
            assert!((1..=curve.width).contains(&last.count));
        }
        assert_eq!(curve.width, 16);
    }

    #[test]
    fn a_million_lines_are_thinned_and_keep_their_extremes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        // First and last of a bucket of two, of four and so on, and between.
        let spikes = [1101, 3000, 4097, 65_536, 300_003, 777_777, 999_998];
        let spike = |step: u64| match spikes.iter().position(|at| [*at, *at + 1].contains(&step)) {
            Some(at) if spikes.contains(&step) => 9.0 + at as f64,
            Some(at) => -9.0 - at as f64,
            None => 1.0 / step as f64,
        };
        let text: String = (1..=1_000_000)
            .map(|step| {
                format!(
                    "{{\"step\":{step},\"loss\":{},\"lr\":0.001,\"grad_norm\":1.5,\"tokens\":{}}}\n",
                    spike(step),
                    step * 512
                )
            })
            .collect();
        fs::write(&path, text).unwrap();
        let since = Instant::now();
        let mut curves = Curves::default();
        curves.follow(&path).unwrap();
        let told = curves.told();
        println!("a million lines in {:?}", since.elapsed());
        let loss = points(&told, "loss");
        assert!(loss.len() <= 2 * BUCKETS && loss.len() > BUCKETS, "{}", loss.len());
        assert!(loss.is_sorted_by_key(|point| point.0));
        assert_eq!(loss[0], (1, 1.0));
        for at in spikes {
            assert!([at, at + 1].iter().all(|step| loss.contains(&(*step, spike(*step)))), "at {at}");
        }
        assert_eq!(told.step, 1_000_000);
    }
}
