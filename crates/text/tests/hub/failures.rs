//! Connections that break, answers that lie, and what is said when nothing can be had.

use std::fs;
use std::net::TcpListener;

use tempfile::tempdir;
use text::hub::{Hub, Kind, Settings};
use text::progress::{Progress, Silent, Unit};

use super::flush::without;
use super::server::{Server, etag};
use super::{commit_model, files_below, golden, hub, message, name, settings};

const BLOBS: &str = "hub/models--someone--tiny/blobs";

#[test]
fn a_connection_that_breaks_is_continued_where_it_broke() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    commit_model(&server, &[]);
    server.world().cut = Some((20_000, 1));
    let model = hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent).unwrap();
    let (_, weights) = &golden()[2];
    assert_eq!(&fs::read(model.path.join("model.safetensors")).unwrap(), weights);
    let ranges: Vec<_> = server.asked("GET", &etag(weights)).into_iter().map(|a| a.range).collect();
    assert_eq!(ranges, [None, Some("bytes=20000-".to_owned())]);
}

#[test]
fn a_command_that_failed_is_continued_by_the_next() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    commit_model(&server, &[]);
    let (_, weights) = &golden()[2];
    // So often as a stubborn program asks without getting a byte.
    server.world().cut = Some((0, 1000));
    let partial = dir.path().join(BLOBS).join(format!("{}.incomplete", etag(weights)));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, &weights[..30_000]).unwrap();
    let failed = message(hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent));
    assert!(failed.contains("the same command goes on"), "{failed}");
    assert_eq!(fs::metadata(&partial).unwrap().len(), 30_000, "what was there is kept");

    server.world().cut = None;
    server.world().asked.clear();
    hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent).unwrap();
    let ranges: Vec<_> = server.asked("GET", &etag(weights)).into_iter().map(|a| a.range).collect();
    assert_eq!(ranges, [Some("bytes=30000-".to_owned())]);
    assert!(!partial.exists());
}

#[test]
fn what_cannot_be_flushed_gets_no_name() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    commit_model(&server, &[]);
    let (_, weights) = &golden()[2];
    let fetch = || hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent);
    let failed = message(without(libc::SYS_fsync, None, || fetch().map(drop)));
    assert!(failed.contains("cannot write"), "{failed}");
    assert!(!dir.path().join(BLOBS).join(etag(weights)).exists());
    fetch().unwrap();
}

#[test]
fn a_store_without_ranges_begins_anew() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    commit_model(&server, &[]);
    let mut world = server.world();
    (world.cut, world.no_ranges) = (Some((50_000, 1)), true);
    drop(world);
    let model = hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent).unwrap();
    assert_eq!(fs::read(model.path.join("model.safetensors")).unwrap(), golden()[2].1);
}

#[test]
fn wrong_contents_are_refused_and_not_kept() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    commit_model(&server, &[]);
    let blob = |bytes: &[u8]| dir.path().join(BLOBS).join(etag(bytes));
    let [(_, config), _, (_, weights)] = &golden()[..] else { panic!("three files") };
    for (least, file, bytes, digest) in
        [(0, "config.json", config, "git"), (1000, "model.safetensors", weights, "SHA-256")]
    {
        server.world().lies = Some(least);
        let failed = message(hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent));
        let parts = [file, "is not what the hub has", digest];
        assert!(parts.iter().all(|part| failed.contains(part)), "{failed}");
        assert!(!blob(bytes).exists() && !blob(bytes).with_extension("incomplete").exists(), "{file}");
    }
    server.world().lies = None;
    hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent).unwrap();
}

#[test]
fn a_beginning_that_is_of_another_file_is_thrown_away() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    commit_model(&server, &[]);
    let (_, weights) = &golden()[2];
    let blobs = dir.path().join(BLOBS);
    fs::create_dir_all(&blobs).unwrap();
    for garbage in [vec![0; 1000], vec![0; weights.len()], vec![0; weights.len() + 9]] {
        fs::write(blobs.join(format!("{}.incomplete", etag(weights))), garbage).unwrap();
        let model = hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent).unwrap();
        assert_eq!(&fs::read(model.path.join("model.safetensors")).unwrap(), weights);
        fs::remove_file(blobs.join(etag(weights))).unwrap();
    }
}

#[test]
fn a_cached_file_of_another_length_is_fetched_again() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    commit_model(&server, &[]);
    let hub = hub(&server, dir.path());
    let model = hub.model(&name("hf:someone/tiny"), &Silent).unwrap();
    let weights = model.path.join("model.safetensors");
    fs::OpenOptions::new().write(true).open(&weights).unwrap().set_len(10).unwrap();
    hub.model(&name("hf:someone/tiny"), &Silent).unwrap();
    assert_eq!(fs::read(&weights).unwrap(), golden()[2].1);
}

#[test]
fn a_hub_that_says_no_is_explained() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    commit_model(&server, &[]);
    let said = |refuse, files, token: bool, text: &str| {
        let mut world = server.world();
        (world.refuse, world.refuse_files) = (refuse, files);
        drop(world);
        let mut settings = settings(&server.endpoint, dir.path());
        settings.token = settings.token.filter(|_| token);
        message(Hub::new(settings).unwrap().model(&name(text), &Silent))
    };
    let tiny = "hf:someone/tiny";
    for (message, parts) in [
        (said(None, false, true, "hf:someone/tiny@v9"), ["no revision \"v9\"", "branch"]),
        (said(Some((404, "RepoNotFound")), false, true, tiny), ["there is no model someone/tiny", "404"]),
        (said(None, false, false, "hf:no/body"), ["either there is no model no/body", "HF_TOKEN"]),
        (said(None, false, true, "hf:no/body"), ["token", "401"]),
        (said(Some((403, "GatedRepo")), true, true, tiny), ["accept its terms", "HF_TOKEN"]),
        (said(Some((401, "GatedRepo")), true, false, tiny), ["accept its terms", "HF_TOKEN"]),
        (said(Some((418, "Teapot")), true, false, tiny), ["418", "Teapot"]),
    ] {
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn nobody_there() {
    let dir = tempdir().unwrap();
    // An address that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = settings(&format!("http://{address}"), dir.path());
    for (offline, parts) in
        [(false, ["cannot be reached", "HF_ENDPOINT"]), (true, ["HF_HUB_OFFLINE", "unset"])]
    {
        let hub = Hub::new(Settings { offline, ..settings.clone() }).unwrap();
        let said = message(hub.model(&name("hf:someone/tiny"), &Silent));
        let advice = ["someone/tiny", "hf download", "another machine"];
        assert!(parts.iter().chain(&advice).all(|part| said.contains(part)), "{said}");
        let said = message(hub.open(Kind::Dataset, &name("hf:someone/texts@v1"), &Silent));
        assert!(said.contains("--repo-type dataset someone/texts --revision v1"), "{said}");
    }
    assert!(files_below(dir.path()).is_empty(), "nothing is left behind");
}

#[test]
fn offline_says_which_file_is_missing() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    let commit = commit_model(&server, &[]);
    let model = hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent).unwrap();
    fs::remove_file(model.path.join("model.safetensors")).unwrap();
    let offline = Settings { offline: true, ..settings(&server.endpoint, dir.path()) };
    let hub = Hub::new(offline).unwrap();
    let said = message(hub.model(&name("hf:someone/tiny"), &Silent));
    assert!(said.contains("model.safetensors is not in the cache"), "{said}");
    // Where others filled the cache, there may be no listing: then what is there must be a model.
    fs::remove_file(dir.path().join(format!("hub/models--someone--tiny/trees/{commit}.json"))).unwrap();
    let said = message(hub.model(&name("hf:someone/tiny"), &Silent));
    assert!(said.contains("a whole model is not in the cache"), "{said}");
}

#[test]
fn a_path_that_leads_out_is_refused() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    for path in ["../../x", "/x", "a/../../../../x"] {
        server.commit("datasets/someone/texts", &[(path, b"text")]);
        let said = message(hub(&server, dir.path()).open(Kind::Dataset, &name("hf:someone/texts"), &Silent));
        assert!(said.contains("outside of its directory: refused"), "{said}");
    }
    assert!(files_below(dir.path()).is_empty());
}

#[test]
fn what_the_disk_cannot_hold_is_not_begun() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    commit_model(&server, &[]);
    server.world().false_size = Some(1 << 60);
    let said = message(hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent));
    assert!(said.contains("free some space") && said.contains("HF_HOME"), "{said}");
    assert!(!dir.path().join(BLOBS).exists());
    // More comes than was said: not the file that is meant.
    server.world().false_size = Some(5000);
    let cache = tempdir().unwrap();
    let said = message(hub(&server, cache.path()).model(&name("hf:someone/tiny"), &Silent));
    assert!(said.contains("longer than the hub said"), "{said}");
}

/// Asks to stop as soon as a byte has come.
#[derive(Default)]
struct Impatient(std::sync::atomic::AtomicU64);

impl Progress for Impatient {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, n: u64) {
        self.0.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    }
    fn line(&self, _: &str) {}
    fn end(&self) {}
    fn should_stop(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed) > 2000
    }
}

#[test]
fn a_download_stops_when_it_is_asked_to() {
    let (server, dir) = (Server::start(), tempdir().unwrap());
    commit_model(&server, &[]);
    let stopped = hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Impatient::default());
    let stopped = stopped.err().unwrap();
    assert!(stopped.is::<text::progress::Stopped>(), "{stopped:#}");
    hub(&server, dir.path()).model(&name("hf:someone/tiny"), &Silent).unwrap();
}
