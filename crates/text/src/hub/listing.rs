//! The files of a repository at a commit, as the hub tells them and as the cache keeps them: one JSON file a
//! commit, in the layout that `huggingface_hub` reads and writes.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::name::{is_commit, is_file};

/// The version of the cached file.
const FORMAT: u32 = 1;

/// What is known of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Remote {
    /// Its bytes; a mirror may not tell.
    pub(super) size: Option<u64>,
    /// The name of its contents: SHA-256 of a large file, git's SHA-1 of a small one.
    pub(super) etag: Option<String>,
}

/// The files of a repository by path, at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: BTreeMap<String, Remote>,
}

/// What `/api/…/revision/…?blobs=true` answers, as far as it is read.
#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// The cached file.
#[derive(Serialize, Deserialize)]
struct Kept {
    format_version: u32,
    files: BTreeMap<String, KeptFile>,
}

#[derive(Serialize, Deserialize)]
struct KeptFile {
    size: u64,
    blob_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
}

impl Listing {
    /// Understands the hub's answer. Besides the listing: the text to keep of it, where it tells all that is
    /// kept.
    ///
    /// # Errors
    /// It is none, or a path in it leads out of the repository.
    pub(super) fn from_answer(bytes: &[u8]) -> Result<(Listing, Option<String>)> {
        let answer: Answer =
            serde_json::from_slice(bytes).context("the answer is not that of a Hugging Face hub")?;
        ensure!(is_commit(&answer.sha), "the hub names a commit {:?}, which is none", answer.sha);
        let (mut files, mut kept) = (BTreeMap::new(), Some(BTreeMap::new()));
        for Sibling { rfilename, size, blob_id, lfs } in answer.siblings {
            check_path(&rfilename)?;
            let entry = size.zip(blob_id.clone()).map(|(size, blob_id)| {
                let (lfs_sha256, lfs_size) = lfs.as_ref().map(|l| (l.sha256.clone(), l.size)).unzip();
                KeptFile { size, blob_id, lfs_sha256, lfs_size }
            });
            kept = kept.zip(entry).map(|(mut kept, entry)| {
                kept.insert(rfilename.clone(), entry);
                kept
            });
            let remote = match lfs {
                Some(Lfs { sha256, size }) => Remote { size: Some(size), etag: Some(sha256) },
                None => Remote { size, etag: blob_id },
            };
            files.insert(rfilename, remote);
        }
        let kept = kept.map(|files| serde_json::to_string_pretty(&Kept { format_version: FORMAT, files }));
        Ok((Listing { commit: answer.sha, files }, kept.transpose()?))
    }

    /// Understands a cached file; none where it is of another version or damaged, and must be asked for
    /// again.
    pub(super) fn from_cache(commit: &str, text: &[u8]) -> Option<Listing> {
        let kept: Kept =
            serde_json::from_slice(text).ok().filter(|kept: &Kept| kept.format_version == FORMAT)?;
        let files = kept.files.into_iter().map(|(path, file)| {
            let size = Some(file.lfs_size.unwrap_or(file.size));
            is_file(&path).then_some((path, Remote { size, etag: file.lfs_sha256.or(Some(file.blob_id)) }))
        });
        Some(Listing { commit: commit.to_owned(), files: files.collect::<Option<_>>()? })
    }
}

/// Refuses what would lie outside of the repository's directory.
pub(super) fn check_path(path: &str) -> Result<()> {
    ensure!(
        is_file(path),
        "the hub names a file {path:?}, which would lie outside of its directory: refused"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn what_the_hub_answers_is_kept_and_read_back() {
        let answer = format!(
            r#"{{"id":"a/b","sha":"{SHA}","gated":false,"siblings":[
                {{"rfilename":"config.json","size":7,"blobId":"b1"}},
                {{"rfilename":"data/a b.parquet","size":9,"blobId":"b2","lfs":{{"sha256":"s2","size":9,"pointerSize":130}}}}]}}"#
        );
        let (listing, kept) = Listing::from_answer(answer.as_bytes()).unwrap();
        assert_eq!(listing.commit, SHA);
        assert_eq!(listing.files["config.json"], Remote { size: Some(7), etag: Some("b1".into()) });
        assert_eq!(listing.files["data/a b.parquet"], Remote { size: Some(9), etag: Some("s2".into()) });
        let kept = kept.unwrap();
        assert_eq!(Listing::from_cache(SHA, kept.as_bytes()), Some(listing));
        // What huggingface_hub writes has one field more.
        let theirs = kept.replace("\"lfs_size\"", "\"xet_hash\": \"x\", \"lfs_size\"");
        assert!(Listing::from_cache(SHA, theirs.as_bytes()).is_some());
        for damaged in [&kept[..kept.len() / 2], &kept.replace(": 1", ": 2"), &kept.replace("config", "../c")]
        {
            assert_eq!(Listing::from_cache(SHA, damaged.as_bytes()), None, "{damaged}");
        }
    }

    #[test]
    fn a_mirror_may_tell_names_only() {
        let answer = format!(r#"{{"sha":"{SHA}","siblings":[{{"rfilename":"config.json"}}]}}"#);
        let (listing, kept) = Listing::from_answer(answer.as_bytes()).unwrap();
        assert!(listing.files["config.json"] == Remote::default() && kept.is_none());
    }

    #[test]
    fn a_hostile_answer_is_refused() {
        for path in ["../../x", "/etc/x", "a/../x", "", "a//b", "a\\..\\b", "a\u{0}"] {
            let answer = serde_json::json!({ "sha": SHA, "siblings": [{ "rfilename": path }] });
            let error = Listing::from_answer(answer.to_string().as_bytes()).unwrap_err().to_string();
            assert!(error.contains("outside"), "{error}");
        }
        for answer in ["<html>", "{}", r#"{"sha":"../../../../../../../../../../../../etc/x"}"#] {
            assert!(Listing::from_answer(answer.as_bytes()).is_err(), "{answer}");
        }
    }
}
