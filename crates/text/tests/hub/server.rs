//! A small Hugging Face hub on the loopback: the interface that lists repositories, files by redirect, large
//! ones from a store of another address. It can misbehave, and notes what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Files that are as long as this are large: kept by their SHA-256, in the store.
const LARGE: usize = 1000;

/// A request as it was heard.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) at_store: bool,
}

/// What is served, and how badly. Tests change it while it is served.
#[derive(Default)]
pub(crate) struct World {
    /// `models/OWNER/NAME` or `datasets/OWNER/NAME` → branch or commit → the commit's files.
    repositories: BTreeMap<String, BTreeMap<String, Commit>>,
    pub(crate) asked: Vec<Asked>,
    /// Contents end after so many bytes, so many times.
    pub(crate) cut: Option<(usize, u32)>,
    /// Answer this status, with this code, instead of anything.
    pub(crate) refuse: Option<(u16, &'static str)>,
    /// Refuse only files.
    pub(crate) refuse_files: bool,
    /// Listings tell names only.
    pub(crate) names_only: bool,
    /// Every range is ignored.
    pub(crate) no_ranges: bool,
    /// One byte is another in all contents that are as long as this.
    pub(crate) lies: Option<usize>,
    /// The size that listings tell of large files, instead of theirs.
    pub(crate) false_size: Option<u64>,
}

#[derive(Clone)]
struct Commit {
    sha: String,
    files: BTreeMap<String, Vec<u8>>,
}

/// A hub that answers until it is dropped.
pub(crate) struct Server {
    pub(crate) endpoint: String,
    world: Arc<Mutex<World>>,
    listeners: Vec<(TcpListener, thread::JoinHandle<()>)>,
}

impl Server {
    pub(crate) fn start() -> Server {
        let world = Arc::new(Mutex::new(World::default()));
        let [hub, store] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("the loopback"));
        let address =
            |listener: &TcpListener| format!("http://{}", listener.local_addr().expect("it is bound"));
        let (endpoint, store_address) = (address(&hub), address(&store));
        let mut listeners = Vec::new();
        for (listener, at_store) in [(hub, false), (store, true)] {
            let (world, store_address) = (world.clone(), store_address.clone());
            let accepting = listener.try_clone().expect("a listener");
            let thread = thread::spawn(move || {
                for stream in accepting.incoming() {
                    let Ok(stream) = stream else { return };
                    let (world, store_address) = (world.clone(), store_address.clone());
                    // A connection is answered once; the last one of all ends the thread.
                    if !answer(stream, at_store, &world, &store_address) {
                        return;
                    }
                }
            });
            listeners.push((listener, thread));
        }
        Server { endpoint, world, listeners }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no request panicked")
    }

    /// Makes `files` the newest commit of a repository's branch `main`, and returns its hash.
    pub(crate) fn commit(&self, repository: &str, files: &[(&str, &[u8])]) -> String {
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(path, bytes)| (path.to_string(), bytes.to_vec())).collect();
        let mut all = Sha1::new();
        files.iter().for_each(|(path, bytes)| all.update(format!("{path} {}", etag(bytes))));
        let sha = hex(&all.finalize());
        let commit = Commit { sha: sha.clone(), files };
        let mut world = self.world();
        let revisions = world.repositories.entry(repository.to_owned()).or_default();
        revisions.insert("main".into(), commit.clone());
        revisions.insert(sha.clone(), commit);
        sha
    }

    /// The requests since the last call that begin with `method` and hold `part` in their path.
    pub(crate) fn asked(&self, method: &str, part: &str) -> Vec<Asked> {
        let asked = std::mem::take(&mut self.world().asked);
        asked.into_iter().filter(|a| a.method == method && a.path.contains(part)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for (listener, thread) in self.listeners.drain(..) {
            let address = listener.local_addr().expect("it is bound");
            let stop =
                TcpStream::connect(address).and_then(|mut stream| stream.write_all(b"STOP / \r\n\r\n"));
            drop(listener);
            if stop.is_ok() {
                let _ = thread.join();
            }
        }
    }
}

/// Answers one request; `false` where it was the word to stop.
fn answer(stream: TcpStream, at_store: bool, world: &Mutex<World>, store: &str) -> bool {
    let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
    let mut line = String::new();
    let mut read = || {
        line.clear();
        reader.read_line(&mut line).ok().map(|_| line.trim_end().to_owned()).filter(|line| !line.is_empty())
    };
    let Some(request) = read() else { return true };
    let mut words = request.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return true };
    if method == "STOP" {
        return false;
    }
    let mut asked = Asked { method, path, range: None, token: None, at_store };
    while let Some(header) = read() {
        let (name, value) = header.split_once(": ").unwrap_or((&header, ""));
        match name.to_ascii_lowercase().as_str() {
            "range" => asked.range = Some(value.to_owned()),
            "authorization" => asked.token = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut world = world.lock().expect("no request panicked");
    world.asked.push(asked.clone());
    let reply = world.reply(&asked, store);
    drop(world);
    // Whoever asked may be gone.
    let _ = reply.send(stream, asked.method == "HEAD");
    true
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Bytes of the body that are sent before the connection breaks.
    sent: usize,
}

impl Reply {
    fn new(status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Reply {
        Reply { status, headers, sent: body.len(), body }
    }

    fn send(self, mut stream: TcpStream, is_head: bool) -> std::io::Result<()> {
        let mut text = format!("HTTP/1.1 {} x\r\ncontent-length: {}\r\n", self.status, self.body.len());
        self.headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        stream.write_all(format!("{text}connection: close\r\n\r\n").as_bytes())?;
        if !is_head {
            stream.write_all(&self.body[..self.sent])?;
        }
        stream.flush()
    }
}

impl World {
    fn reply(&mut self, asked: &Asked, store: &str) -> Reply {
        let path = asked.path.split('?').next().unwrap_or_default().replace("%2F", "/").replace("%20", " ");
        let is_listing = path.starts_with("/api/") && path.contains("/revision/");
        if let Some((status, code)) = self.refuse.filter(|_| !(self.refuse_files && is_listing)) {
            return Reply::new(status, vec![("x-error-code", code.into())], b"no".to_vec());
        }
        if asked.at_store {
            let contents = self.contents(path.trim_start_matches('/'));
            return contents.map_or_else(not_found, |bytes| self.file(bytes, asked));
        }
        match path.strip_prefix("/api/").and_then(|rest| rest.split_once("/revision/")) {
            Some((repository, revision)) => self.listing(repository, revision),
            None => self.resolve(&path, asked, store),
        }
    }

    fn listing(&self, repository: &str, revision: &str) -> Reply {
        let Some(revisions) = self.repositories.get(repository) else {
            return Reply::new(401, vec![("x-error-code", "RepoNotFound".into())], Vec::new());
        };
        let Some(commit) = revisions.get(revision) else {
            return Reply::new(404, vec![("x-error-code", "RevisionNotFound".into())], Vec::new());
        };
        let file = |(path, bytes): (&String, &Vec<u8>)| {
            if self.names_only {
                return json!({ "rfilename": path });
            }
            let (size, large) = (bytes.len() as u64, bytes.len() >= LARGE);
            let size = self.false_size.filter(|_| large).unwrap_or(size);
            let mut file = json!({ "rfilename": path, "size": size, "blobId": git_digest(bytes) });
            if large {
                file["lfs"] = json!({ "sha256": etag(bytes), "size": size, "pointerSize": 130 });
            }
            file
        };
        let siblings: Vec<_> = commit.files.iter().map(file).collect();
        let answer = json!({ "id": repository, "sha": commit.sha, "siblings": siblings });
        Reply::new(200, vec![("content-type", "application/json".into())], answer.to_string().into_bytes())
    }

    /// `/[datasets/]OWNER/NAME/resolve/COMMIT/PATH`, and where small files are taken from in truth.
    fn resolve(&mut self, path: &str, asked: &Asked, store: &str) -> Reply {
        let (path, direct) = match path.strip_prefix("/resolve-cache") {
            Some(path) => (path, true),
            None => (path, false),
        };
        let Some((repository, rest)) = path[1..].split_once("/resolve/") else { return not_found() };
        let kind = if repository.starts_with("datasets/") { "" } else { "models/" };
        let (revision, file) = rest.split_once('/').unwrap_or((rest, ""));
        let commit = self.repositories.get(&format!("{kind}{repository}")).and_then(|r| r.get(revision));
        let Some((commit, bytes)) = commit.and_then(|c| Some((c.sha.clone(), c.files.get(file)?.clone())))
        else {
            return not_found();
        };
        let about = |name: &'static str| (name, format!("\"{}\"", etag(&bytes)));
        let mut headers = vec![("x-repo-commit", commit)];
        if direct {
            headers.push(about("etag"));
            let mut reply = self.file(bytes, asked);
            reply.headers.extend(headers);
            reply
        } else if bytes.len() >= LARGE {
            headers.push(about("x-linked-etag"));
            headers.push(("x-linked-size", bytes.len().to_string()));
            headers.push(("location", format!("{store}/{}", etag(&bytes))));
            Reply::new(302, headers, Vec::new())
        } else {
            headers.push(("location", format!("/resolve-cache{}", asked.path)));
            Reply::new(307, headers, Vec::new())
        }
    }

    /// Contents in the store, by digest.
    fn contents(&self, digest: &str) -> Option<Vec<u8>> {
        let commits = self.repositories.values().flat_map(BTreeMap::values);
        commits.flat_map(|commit| commit.files.values()).find(|bytes| etag(bytes) == digest).cloned()
    }

    fn file(&mut self, mut bytes: Vec<u8>, asked: &Asked) -> Reply {
        if self.lies.is_some_and(|least| bytes.len() >= least) {
            bytes[0] ^= 1;
        }
        let length = bytes.len();
        let range = asked.range.as_deref().filter(|_| !self.no_ranges);
        let from = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let mut reply = match from {
            Some(from) if from >= length => Reply::new(416, Vec::new(), Vec::new()),
            Some(from) => {
                let range = format!("bytes {from}-{}/{length}", length - 1);
                Reply::new(206, vec![("content-range", range)], bytes.split_off(from))
            }
            None => Reply::new(200, Vec::new(), bytes),
        };
        if let Some((at, times)) =
            self.cut.filter(|(at, times)| asked.method == "GET" && *times > 0 && reply.body.len() > *at)
        {
            reply.sent = at;
            self.cut = Some((at, times - 1));
        }
        reply
    }
}

fn not_found() -> Reply {
    Reply::new(404, vec![("x-error-code", "EntryNotFound".into())], Vec::new())
}

/// What the hub calls contents: SHA-256 of large ones, git's digest of small ones.
pub(crate) fn etag(bytes: &[u8]) -> String {
    if bytes.len() >= LARGE { hex(&Sha256::digest(bytes)) } else { git_digest(bytes) }
}

fn git_digest(bytes: &[u8]) -> String {
    let mut digest = Sha1::new();
    digest.update(format!("blob {}\0", bytes.len()));
    digest.update(bytes);
    hex(&digest.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
