//! Near duplicates, for any number of documents in bounded memory: locality-sensitive hashing over MinHash
//! signatures (Indyk & Motwani 1998; 128 hashes as SlimPajama and others use).
//!
//! A signature is cut into 16 bands of 8 bytes. Two documents that agree in a band are compared; they are
//! near duplicates when the similarity that their signatures tell reaches the threshold. A pair of similarity
//! s meets in some band with probability 1 − (1 − s⁸)¹⁶: 0.61 at 0.7, 0.95 at 0.8, 0.9999 at 0.9.
//!
//! Only documents that stay are remembered, so a document is compared with those, in the order of the input:
//! the first of a group stays. The first [`MAX_NEAR`] that stay live in memory (0.35 GB). Whoever resembles
//! none of them when it is full is let through and its signature logged to a file; at the end the log is gone
//! through with a fresh memory, as often as it takes, and the rest of the near duplicates are named by their
//! number. So the memory decides about time, not about the result (but for documents of one template, of
//! which a fresh memory compares others).

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::minhash::{HASHES, Signature, similarity};

const BANDS: usize = 16;
const BAND_BYTES: usize = HASHES / BANDS;
/// Documents that agree in a band, at most, are remembered in it. Beyond that the band is what a template or
/// a licence leaves in every file: it tells nothing, and would be compared without end.
const MAX_BAND_FELLOWS: usize = 32;
const EMPTY: u32 = u32::MAX;

/// The similarities that may be asked for. Below them the bands would miss too many pairs.
pub const NEAR_THRESHOLDS: std::ops::RangeInclusive<f64> = 0.7..=1.0;

/// Documents held in memory: three quarters of tables of 2²¹ places.
pub const MAX_NEAR: usize = (1 << 21) / 4 * 3;

/// The document that another one resembles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Resemblance {
    /// What the document is called.
    pub(super) number: u64,
    /// The estimated Jaccard similarity.
    pub(super) similarity: f64,
}

/// The documents that stay.
pub(super) struct Near {
    threshold: f64,
    limit: usize,
    numbers: Vec<u64>,
    signatures: Vec<Signature>,
    /// For each band a hash table with linear probing: indices of documents, at the place that the band's
    /// bytes say.
    tables: Vec<Vec<u32>>,
    log_path: PathBuf,
    log: Option<BufWriter<File>>,
}

impl Near {
    pub(super) fn new(threshold: f64, log_path: PathBuf, limit: usize) -> Near {
        let (numbers, signatures) = (Vec::new(), Vec::new());
        let tables = vec![vec![EMPTY; 64]; BANDS];
        Near { threshold, limit, numbers, signatures, tables, log_path, log: None }
    }

    /// The document that stays and resembles this one most, if one does. If none does, this one stays;
    /// `number` is what it is called.
    pub(super) fn resembles(&mut self, signature: &Signature, number: u64) -> Result<Option<Resemblance>> {
        let mut best: Option<(usize, f64)> = None;
        for band in 0..BANDS {
            self.probe(band, signature, |index| {
                let similarity = similarity(&self.signatures[index], signature);
                // Of equally similar ones, the first.
                if best.is_none_or(|(i, s)| similarity > s || similarity == s && index < i) {
                    best = Some((index, similarity));
                }
            });
        }
        if let Some((index, similarity)) = best.filter(|(_, s)| *s >= self.threshold) {
            return Ok(Some(Resemblance { number: self.numbers[index], similarity }));
        }
        if self.numbers.len() < self.limit {
            self.remember(signature, number);
        } else {
            self.write_log(signature, number)?;
        }
        Ok(None)
    }

    /// Visits the documents that agree with a signature in a band; returns how many, and the free place after
    /// them.
    fn probe(&self, band: usize, signature: &Signature, mut visit: impl FnMut(usize)) -> (usize, usize) {
        let table = &self.tables[band];
        let key = key(signature, band);
        let (mut place, mut fellows) = (home(key, table.len()), 0);
        while table[place] != EMPTY {
            let index = table[place] as usize;
            if self::key(&self.signatures[index], band) == key {
                visit(index);
                fellows += 1;
            }
            place = (place + 1) % table.len();
        }
        (fellows, place)
    }

    fn remember(&mut self, signature: &Signature, number: u64) {
        if self.numbers.len() * 4 >= self.tables[0].len() * 3 {
            let places = self.tables[0].len() * 2;
            for band in 0..BANDS {
                self.tables[band] = vec![EMPTY; places];
                (0..self.numbers.len()).for_each(|index| self.put(band, index));
            }
        }
        self.numbers.push(number);
        self.signatures.push(*signature);
        (0..BANDS).for_each(|band| self.put(band, self.numbers.len() - 1));
    }

    fn put(&mut self, band: usize, index: usize) {
        let (fellows, place) = self.probe(band, &self.signatures[index], |_| ());
        if fellows < MAX_BAND_FELLOWS {
            self.tables[band][place] = index as u32;
        }
    }

    fn write_log(&mut self, signature: &Signature, number: u64) -> Result<()> {
        let log = match &mut self.log {
            Some(log) => log,
            None => {
                let file = File::create(&self.log_path)
                    .with_context(|| format!("cannot create {}", self.log_path.display()))?;
                self.log.insert(BufWriter::with_capacity(1 << 20, file))
            }
        };
        log.write_all(&number.to_le_bytes())?;
        log.write_all(signature).context("cannot write the log of signatures: is the disk full?")
    }

    /// The near duplicates that were let through, in the order of their numbers.
    pub(super) fn late(mut self) -> Result<Vec<(u64, Resemblance)>> {
        let (mut late, mut round) = (Vec::new(), 0);
        while let Some(log) = self.log.take() {
            log.into_inner().map_err(|e| e.into_error())?;
            let path = self.log_path;
            let mut reader = BufReader::with_capacity(1 << 20, File::open(&path)?);
            round += 1;
            self = Near::new(self.threshold, path.with_extension(round.to_string()), self.limit);
            let (mut number, mut signature) = ([0; 8], [0; HASHES]);
            loop {
                match reader.read_exact(&mut number).and_then(|()| reader.read_exact(&mut signature)) {
                    Ok(()) => {}
                    Err(e) if e.kind() == ErrorKind::UnexpectedEof => break,
                    Err(e) => return Err(e).context("cannot read the log of signatures"),
                }
                let number = u64::from_le_bytes(number);
                late.extend(self.resembles(&signature, number)?.map(|found| (number, found)));
            }
            std::fs::remove_file(path)?;
        }
        late.sort_unstable_by_key(|(number, _)| *number);
        Ok(late)
    }
}

fn key(signature: &Signature, band: usize) -> u64 {
    let mut bytes = [0; BAND_BYTES];
    bytes.copy_from_slice(&signature[band * BAND_BYTES..][..BAND_BYTES]);
    u64::from_le_bytes(bytes)
}

/// Where the search for a key begins in a table of a power of two of places.
fn home(key: u64, places: usize) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (places - 1)
}

#[cfg(test)]
mod tests {
    use kernels::rng;

    use super::super::minhash::signature;
    use super::*;

    /// Documents in groups of four: an original and three copies, in which a word in 200, in 60 and in 8 is
    /// another.
    fn texts(groups: u64) -> Vec<String> {
        let text = |group: u64, every: u64| -> String {
            (0..400)
                .map(|i| {
                    let stream = group * 10 + if every > 0 && i % every == every / 2 { every } else { 0 };
                    format!("w{} ", rng::below(5, stream, i, 3000))
                })
                .collect()
        };
        let mut texts: Vec<String> =
            (0..groups).flat_map(|group| [0, 200, 60, 8].map(|every| text(group, every))).collect();
        // In an order of their own.
        texts.sort_by_key(|text| rng::bits(9, 9, text.bytes().map(u64::from).sum()));
        texts
    }

    /// Who resembles whom, with a memory of `limit` documents.
    fn found(texts: &[String], threshold: f64, limit: usize) -> Vec<(u64, Resemblance)> {
        let dir = tempfile::tempdir().unwrap();
        let mut near = Near::new(threshold, dir.path().join("log"), limit);
        let mut all = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            let found = near.resembles(&signature(text).unwrap(), number as u64).unwrap();
            all.extend(found.map(|found| (number as u64, found)));
        }
        let late = near.late().unwrap();
        assert_eq!(late.is_empty(), limit > texts.len());
        all.extend(late);
        all.sort_by_key(|(number, _)| *number);
        all
    }

    #[test]
    fn all_pairs_compared_say_the_same_and_the_memory_does_not_matter() {
        let texts = texts(150);
        let signatures: Vec<Signature> = texts.iter().map(|text| signature(text).unwrap()).collect();
        for threshold in [0.8, 0.9] {
            // Every document with every one before it that stays.
            let mut stay: Vec<usize> = Vec::new();
            let mut want = Vec::new();
            for (number, own) in signatures.iter().enumerate() {
                let likeness = |&i: &usize| similarity(&signatures[i], own);
                match stay
                    .iter()
                    .copied()
                    .filter(|i| likeness(i) >= threshold)
                    .max_by(|a, b| likeness(a).total_cmp(&likeness(b)).then(b.cmp(a)))
                {
                    Some(i) => {
                        want.push((number as u64, Resemblance { number: i as u64, similarity: likeness(&i) }))
                    }
                    None => stay.push(number),
                }
            }
            let all = found(&texts, threshold, 10_000);
            assert!((150..=320).contains(&want.len()), "{}", want.len());
            let missed = want.iter().filter(|w| !all.contains(w)).count();
            assert!(missed * 50 <= want.len(), "{missed} of {} missed at {threshold}", want.len());
            assert!(all.len() <= want.len() + missed, "{} found, {} there", all.len(), want.len());
            for limit in [300, 40, 7] {
                let numbers = |found: &[(u64, Resemblance)]| found.iter().map(|f| f.0).collect::<Vec<_>>();
                assert_eq!(numbers(&found(&texts, threshold, limit)), numbers(&all), "a memory of {limit}");
            }
        }
    }

    #[test]
    fn a_template_in_every_document_costs_no_comparison_of_all_with_all() {
        let dir = tempfile::tempdir().unwrap();
        let mut near = Near::new(0.8, dir.path().join("log"), MAX_NEAR);
        // Half of each signature is the same everywhere.
        for number in 0..5000u64 {
            let signature = std::array::from_fn(|i| {
                if i < HASHES / 2 { i as u8 } else { rng::bits(1, number, i as u64) as u8 }
            });
            assert_eq!(near.resembles(&signature, number).unwrap(), None);
        }
        for band in 0..BANDS {
            let fellows = near.probe(band, &near.signatures[0], |_| ()).0;
            assert!(fellows <= MAX_BAND_FELLOWS, "band {band}: {fellows}");
        }
        // A true copy is found by the other half.
        let copy = near.signatures[4999];
        assert_eq!(near.resembles(&copy, 5000).unwrap(), Some(Resemblance { number: 4999, similarity: 1.0 }));
    }
}
