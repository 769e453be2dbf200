//! One file from the hub into the cache: continued where it was torn, held against its digest, and named
//! last.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::cache::{Cache, STOPPED, cannot_write, create_parent};
use super::http::{Client, Trouble};
use crate::progress::{Progress, Stopped, Unit};

/// So often in a row may a download fail without a single new byte.
const TRIES: u32 = 5;
const BUFFER_BYTES: usize = 1 << 18;
/// While it waits, it looks this often whether it should stop.
const GLANCE: Duration = Duration::from_millis(100);

/// A file to fetch.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) cache: &'a Cache,
    pub(super) progress: &'a dyn Progress,
    /// Where the hub has it.
    pub(super) url_path: String,
    /// What people call it.
    pub(super) path: &'a str,
    /// The name of its contents.
    pub(super) etag: String,
    /// Its bytes, where they are told.
    pub(super) size: Option<u64>,
    /// The wait after the first failure.
    pub(super) patience: Duration,
}

/// Why a download did not come to its end.
pub(super) enum Failure {
    /// The hub; another try may help.
    Hub(Trouble),
    /// What came is not what the hub describes: how so.
    Unlike(String),
    /// The disk, or a request to stop.
    Here(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Here(error)
    }
}

impl Download<'_> {
    /// Bytes that an earlier try left.
    pub(super) fn present_bytes(&self) -> u64 {
        self.cache.incomplete(&self.etag).metadata().map_or(0, |file| file.len())
    }

    /// Fetches what is missing and gives the contents their name.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let _lock = self.cache.lock(&self.etag, self.progress)?;
        let blob = self.cache.blob(&self.etag);
        if blob.metadata().is_ok_and(|file| self.size.is_none_or(|size| size == file.len())) {
            return Ok(());
        }
        let incomplete = self.cache.incomplete(&self.etag);
        create_parent(&incomplete)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&incomplete);
        let mut file = file.with_context(|| cannot_write(&incomplete))?;
        let inherited = self.present_bytes();
        let mut fetched = self.fetch(&mut file, inherited);
        // What somebody left may not be the beginning of this file: that is worth one more try, from nothing.
        if inherited > 0 && matches!(fetched, Err(Failure::Unlike(_))) {
            fetched = self.fetch(&mut file, 0);
        }
        if let Err(Failure::Unlike(_)) = fetched {
            let _ = fs::remove_file(&incomplete);
        }
        fetched?;
        let named = file.sync_all().and_then(|()| fs::rename(&incomplete, &blob));
        Ok(named.with_context(|| cannot_write(&blob))?)
    }

    /// Appends to the first `at` bytes of `file` until it is whole, with patience, and checks it.
    fn fetch(&self, file: &mut File, at: u64) -> Result<(), Failure> {
        let mut at = if self.size.is_some_and(|size| at > size) { 0 } else { at };
        // What was told to the progress is not told again when a mirror begins anew.
        let (mut told, mut tries) = (at, 0);
        while at == 0 || self.size.is_none_or(|size| at < size) {
            let before = told;
            let trouble = match self.fetch_once(file, &mut at, &mut told) {
                Ok(()) => break,
                Err(Failure::Hub(Trouble::Away(why))) => why,
                Err(other) => return Err(other),
            };
            tries = if told > before { 1 } else { tries + 1 };
            if tries > TRIES {
                return Err(Failure::Hub(Trouble::Away(trouble)));
            }
            self.wait(self.patience * 2u32.pow(tries - 1))?;
        }
        self.check(file)
    }

    /// One request; `at` tells afterwards how many bytes are good.
    fn fetch_once(&self, file: &mut File, at: &mut u64, told: &mut u64) -> Result<(), Failure> {
        let answer = self.client.download(&self.url_path, *at).map_err(Failure::Hub)?;
        let status = answer.status().as_u16();
        let range = answer.headers().get("content-range").and_then(|range| range.to_str().ok());
        let continues = range.is_some_and(|range| range.starts_with(&format!("bytes {at}-")));
        if !(status == 206 && continues) {
            // All of it came instead of the rest, or there is no rest: from the beginning.
            *at = 0;
            if status != 200 {
                return Err(Failure::Hub(Trouble::Away(format!("status {status} for a part of it"))));
            }
        }
        let place = file.set_len(*at).and_then(|()| file.seek(SeekFrom::Start(*at)));
        place.context("cannot go to the end of a download")?;
        let mut body = answer.into_body().into_reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            if self.progress.should_stop() {
                return Err(Failure::Here(Stopped(STOPPED).into()));
            }
            let n = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Hub(Trouble::Away(error.to_string()))),
            };
            if self.size.is_some_and(|size| *at + n as u64 > size) {
                return Err(Failure::Unlike("it is longer than the hub said".into()));
            }
            file.write_all(&buffer[..n]).map_err(|error| self.cannot_store(error))?;
            *at += n as u64;
            self.progress.advance(at.saturating_sub(*told));
            *told = (*told).max(*at);
        }
        match self.size {
            Some(size) if *at < size => {
                Err(Failure::Hub(Trouble::Away(format!("it ended after {at} of {size} bytes"))))
            }
            _ => Ok(()),
        }
    }

    fn wait(&self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if self.progress.should_stop() {
                return Err(Failure::Here(Stopped(STOPPED).into()));
            }
            thread::sleep(GLANCE.min(time));
        }
        Ok(())
    }

    fn cannot_store(&self, error: std::io::Error) -> Failure {
        let advice = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                "the disk is full; free some space, or set HF_HOME to a directory on a larger one, then give the same \
                 command again: it goes on with the download"
            }
            _ => "the cache cannot be written",
        };
        let path = self.cache.incomplete(&self.etag);
        Failure::Here(anyhow::Error::new(error).context(format!("{}: {advice}", path.display())))
    }

    /// Holds the contents against their name: SHA-256 in hexadecimal, or git's digest of a file. Other names
    /// are a mirror's own and tell nothing.
    fn check(&self, file: &mut File) -> Result<(), Failure> {
        let length = file.metadata().context("cannot see the size of a download")?.len();
        let (digest, what) = match self.etag.len() {
            64 => (self.digest(file, length, Sha256::new())?, "SHA-256"),
            40 => {
                let header = format!("blob {length}\0");
                (self.digest(file, length, Sha1::new_with_prefix(header))?, "git's digest of it")
            }
            _ => return Ok(()),
        };
        if digest == self.etag {
            return Ok(());
        }
        Err(Failure::Unlike(format!("{what} is {digest} and should be {}", self.etag)))
    }

    fn digest<D: Digest>(&self, file: &mut File, length: u64, mut digest: D) -> Result<String> {
        file.seek(SeekFrom::Start(0))?;
        self.progress.begin(&format!("checking {}", self.path), length, Unit::Bytes);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match file.read(&mut buffer).context("cannot read a download back")? {
                0 => break,
                n => {
                    digest.update(&buffer[..n]);
                    self.progress.advance(n as u64);
                }
            }
        }
        self.progress.end();
        Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Refuses what cannot be the name of a file of contents.
pub(super) fn check_etag(etag: &str, path: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let fits = (1..=128).contains(&etag.len()) && etag.chars().all(plain);
    ensure!(fits, "{path}: the hub calls its contents {etag:?}, which cannot be the name of a file: refused");
    Ok(())
}
