//! The Hugging Face hub: `hf:OWNER/NAME[@REVISION]` in place of a path, for models and for data sets.
//!
//! The one idea: a revision is resolved to a commit once, and from then on everything is said about that
//! commit: what is fetched, where it lies, what a lineage calls it. Files are named by the digest of their
//! contents, so whatever is in the cache under its name is whole, and a commit whose files are there needs no
//! network. The cache is the one of Python's `huggingface_hub`; each finds what the other fetched.
//!
//! ```text
//! Name ── Hub::open ──▶ Repository (a commit, its files) ── fetch ──▶ snapshots/COMMIT/…
//! ```

mod cache;
mod disk_space;
mod download;
mod http;
mod listing;
mod model;
mod name;
mod refusal;
mod settings;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use cache::Cache;
use download::{Download, Failure, check_etag};
use http::{Client, Trouble, escaped};
use listing::{Listing, Remote};
pub use model::Model;
pub use name::Name;
pub use settings::{Settings, Token};

use crate::progress::{Progress, Unit};

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

impl Kind {
    /// In addresses of the interface and in names of the cache.
    fn plural(self) -> &'static str {
        match self {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        }
    }

    /// What stands before the repository in the address of its page and its files.
    fn prefix(self) -> &'static str {
        match self {
            Kind::Model => "",
            Kind::Dataset => "datasets/",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Dataset => "data set",
        }
    }
}

/// A hub, and the cache of what came from it.
pub struct Hub {
    settings: Settings,
    client: Client,
}

/// A repository at a commit.
pub struct Repository<'a> {
    hub: &'a Hub,
    kind: Kind,
    name: Name,
    cache: Cache,
    listing: Listing,
    /// Whether the listing is the hub's, and not only what is there of it.
    listed: bool,
    /// Why the hub is not asked.
    away: Option<String>,
}

impl Hub {
    /// The hub of these settings. Nothing is asked yet.
    pub fn new(settings: Settings) -> Result<Hub> {
        Ok(Hub { client: Client::new(&settings)?, settings })
    }

    /// The hub that the environment names.
    pub fn from_env() -> Result<Hub> {
        Hub::new(Settings::from_env()?)
    }

    /// The repository `name` at the commit that its revision is now. Where the hub does not answer, or is not
    /// to be asked, the cache says what it was.
    ///
    /// # Errors
    /// There is no such repository or revision; it is restricted; or the hub cannot be reached and the cache
    /// knows nothing.
    pub fn open(&self, kind: Kind, name: &Name, progress: &dyn Progress) -> Result<Repository<'_>> {
        let cache = Cache::new(&self.settings.cache, kind, name);
        let revision = name.revision();
        let repository = |cache, listing: Listing, listed, away| {
            let name = name.pinned(&listing.commit);
            Repository { hub: self, kind, name, cache, listing, listed, away }
        };
        let pinned = name::is_commit(revision).then(|| revision.to_owned());
        if let Some(listing) = pinned.as_ref().and_then(|commit| cache.listing(commit)) {
            return Ok(repository(cache, listing, true, self.offline()));
        }
        let away = match self.offline() {
            Some(offline) => offline,
            None => match self.ask(kind, name) {
                Ok((listing, kept)) => {
                    cache.remember(revision, &listing.commit, kept.as_deref());
                    return Ok(repository(cache, listing, true, None));
                }
                Err(Failure::Hub(Trouble::Away(why))) => {
                    format!("the hub {} cannot be reached ({why})", self.settings.endpoint)
                }
                Err(other) => return Err(self.explain(kind, name, None, other)),
            },
        };
        let Some(commit) = pinned.or_else(|| cache.commit_of(revision)) else {
            bail!(self.missing(kind, name, "it", &away));
        };
        let known = cache.listing(&commit).map(|listing| (listing, true));
        let Some((listing, listed)) = known.or_else(|| Some((cache.present(&commit)?, false))) else {
            bail!(self.missing(kind, name, &format!("commit {commit}"), &away));
        };
        let repository = repository(cache, listing, listed, Some(away.clone()));
        if !self.settings.offline {
            progress.line(&format!("{away}: what the cache has of {} is used", repository.name));
        }
        if !listed {
            let files = repository.listing.files.len();
            let what = format!("the list of files of {} is not in the cache", repository.name);
            progress.line(&format!("{what}: those that are there are taken for all, {files} in number"));
        }
        Ok(repository)
    }

    fn offline(&self) -> Option<String> {
        self.settings.offline.then(|| "HF_HUB_OFFLINE forbids to ask the hub".to_owned())
    }

    /// The listing of a revision, and the text to keep of it.
    fn ask(&self, kind: Kind, name: &Name) -> Result<(Listing, Option<String>), Failure> {
        // A revision is one part of the path, slashes included.
        let revision = escaped(name.revision()).replace('/', "%2F");
        let path = format!("/api/{}/{}/revision/{revision}?blobs=true", kind.plural(), name.repository());
        let answer = self.client.ask(&path).map_err(Failure::Hub)?;
        let listing = Listing::from_answer(&answer);
        Ok(listing.with_context(|| format!("{}{path}", self.settings.endpoint))?)
    }
}

impl Repository<'_> {
    /// What it is, pinned to its commit.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Where its files lie once they are fetched.
    pub fn dir(&self) -> PathBuf {
        self.cache.snapshot(&self.listing.commit)
    }

    /// The paths of its files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.listing.files.keys().map(String::as_str)
    }

    /// The bytes of a file, where the hub tells them.
    pub fn size(&self, file: &str) -> Option<u64> {
        self.listing.files.get(file)?.size
    }

    /// Whether it has a file.
    pub fn has(&self, file: &str) -> bool {
        self.listing.files.contains_key(file)
    }

    /// Whether [`files`](Self::files) are all that the hub has; else they are those that are in the cache.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// Makes sure that `files` lie below [`dir`](Self::dir).
    ///
    /// # Errors
    /// They cannot be fetched, or are not what the hub says they are; the disk is full. What came until then
    /// is kept, and the next call goes on with it.
    pub fn fetch(&self, files: &[&str], progress: &dyn Progress) -> Result<()> {
        let wanted: Vec<&str> = files.iter().copied().filter(|file| !self.is_there(file)).collect();
        let Some(first) = wanted.first() else { return Ok(()) };
        if self.away.is_some() {
            let more =
                if wanted.len() > 1 { format!(" (and {} more)", wanted.len() - 1) } else { String::new() };
            return Err(self.missing(&format!("{first}{more}")));
        }
        let downloads =
            wanted.iter().map(|file| self.download(file, progress)).collect::<Result<Vec<_>>>()?;
        let missing_bytes = |d: &Download<'_>| d.size.unwrap_or(0).saturating_sub(d.present_bytes());
        let total = downloads.iter().map(missing_bytes).sum();
        self.check_room(total)?;
        progress.begin(&format!("downloading hf:{}", self.name.repository()), total, Unit::Bytes);
        for download in &downloads {
            let done = download.run();
            done.map_err(|failure| self.hub.explain(self.kind, &self.name, Some(download.path), failure))?;
            self.cache.link(&download.etag, &self.listing.commit, download.path)?;
        }
        progress.end();
        let files = if wanted.len() == 1 { "file" } else { "files" };
        progress.line(&format!("{} {files} of {} → {}", wanted.len(), self.name, self.dir().display()));
        Ok(())
    }

    /// Whether a file is in the cache, as long as it should be. What has a name was whole when it got it.
    pub fn is_there(&self, file: &str) -> bool {
        let size = self.size(file);
        self.dir().join(file).metadata().is_ok_and(|there| size.is_none_or(|size| size == there.len()))
    }

    /// A file's download; a mirror whose listing tells names only is asked about it.
    fn download<'a>(&'a self, file: &'a str, progress: &'a dyn Progress) -> Result<Download<'a>> {
        let Hub { client, settings } = self.hub;
        let repository = format!("{}{}", self.kind.prefix(), self.name.repository());
        let url_path = format!("/{repository}/resolve/{}/{}", self.listing.commit, escaped(file));
        let mut remote = self.listing.files.get(file).cloned().unwrap_or_default();
        if remote.etag.is_none() {
            let described = client.describe(&url_path).map_err(Failure::Hub);
            let described = described.and_then(|answer| Ok(self.understand(answer.headers())?));
            remote =
                described.map_err(|failure| self.hub.explain(self.kind, &self.name, Some(file), failure))?;
        }
        let Some(etag) = remote.etag else {
            bail!("{file}: {} does not tell what its contents are (no ETag)", settings.endpoint)
        };
        check_etag(&etag, file)?;
        let (size, patience, cache) = (remote.size, settings.patience, &self.cache);
        Ok(Download { client, cache, progress, url_path, path: file, etag, size, patience })
    }

    /// What the headers of an answer say about a file. Those with `X-Linked` speak of the file that a
    /// redirect leads to.
    fn understand(&self, headers: &ureq::http::HeaderMap) -> Result<Remote> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(commit) = text("x-repo-commit") {
            ensure!(
                commit == self.listing.commit,
                "the hub speaks of commit {commit} when {} is asked for",
                self.listing.commit
            );
        }
        let is_redirect = headers.contains_key("location");
        let size = text("x-linked-size").or_else(|| text("content-length").filter(|_| !is_redirect));
        let etag = text("x-linked-etag").or_else(|| text("etag"));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned());
        Ok(Remote { size: size.and_then(|size| size.parse().ok()), etag })
    }
}
