//! How a repository is named: `hf:OWNER/NAME[/FILE.gguf][@REVISION]`.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// What a name of the hub begins with.
const SCHEME: &str = "hf:";
/// The hub's own limit for the two parts of a name.
const MAX_PART_CHARS: usize = 96;

/// A repository, and what of it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    repository: String,
    file: Option<String>,
    revision: Option<String>,
}

impl Name {
    /// The name that a path is, where it begins with `hf:`.
    ///
    /// # Errors
    /// It begins so and is no name.
    pub fn of(path: &Path) -> Result<Option<Name>> {
        if !Name::is(path) {
            return Ok(None);
        }
        let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
        Name::parse(text).map(Some)
    }

    /// Whether a path is meant as a name.
    pub fn is(path: &Path) -> bool {
        path.as_os_str().as_encoded_bytes().starts_with(SCHEME.as_bytes())
    }

    fn parse(text: &str) -> Result<Name> {
        let rest = text.strip_prefix(SCHEME).unwrap_or(text);
        let (path, revision) = match rest.split_once('@') {
            Some((path, revision)) => (path, Some(revision.to_owned())),
            None => (rest, None),
        };
        let mut parts = path.splitn(3, '/');
        let (Some(owner), Some(name)) = (parts.next(), parts.next()) else {
            bail!("{text}: an owner and a name are needed, as in hf:openai-community/gpt2")
        };
        for part in [owner, name] {
            ensure!(
                is_part(part),
                "{text}: {part:?} cannot be an owner or a name on the hub; write hf:OWNER/NAME, as in \
                 hf:openai-community/gpt2"
            );
        }
        let file = parts.next().map(str::to_owned);
        if let Some(file) = &file {
            ensure!(
                is_file(file) && file.to_ascii_lowercase().ends_with(".gguf"),
                "{text}: {file:?} cannot be picked, only a .gguf file can; else write hf:{owner}/{name}"
            );
        }
        if let Some(revision) = &revision {
            ensure!(is_revision(revision), "{text}: {revision:?} is no branch, tag or commit");
        }
        Ok(Name { repository: format!("{owner}/{name}"), file, revision })
    }

    /// `OWNER/NAME`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The `.gguf` file that is wanted.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// The branch, tag or commit that is wanted; `main` where none was named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The same at a commit.
    pub fn pinned(&self, commit: &str) -> Name {
        Name { revision: Some(commit.to_owned()), ..self.clone() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.repository)?;
        if let Some(file) = &self.file {
            write!(f, "/{file}")?;
        }
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

/// Whether the hub allows it as an owner or a name. Two hyphens separate the parts of a folder's name in the
/// cache.
fn is_part(part: &str) -> bool {
    let edge = |c: char| matches!(c, '-' | '.');
    !part.is_empty()
        && part.len() <= MAX_PART_CHARS
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !part.starts_with(edge)
        && !part.ends_with(edge)
        && !part.contains("--")
        && !part.contains("..")
}

/// Whether it is a plain path below a directory: what a server sends must not lead out of it.
pub(super) fn is_file(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.contains(|c: char| c == '\\' || c.is_control())
}

/// Whether git could know something by this name, and it stays below `refs/` as a path.
fn is_revision(revision: &str) -> bool {
    is_file(revision) && !revision.contains(|c: char| c.is_whitespace() || "~^:?*[".contains(c))
}

/// Whether it is a commit's full hash, which never means anything else.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_put_together() {
        for (text, repository, file, revision) in [
            ("hf:openai-community/gpt2", "openai-community/gpt2", None, "main"),
            ("hf:Qwen/Qwen3-0.6B@v1.0", "Qwen/Qwen3-0.6B", None, "v1.0"),
            ("hf:a/b@refs/pr/7", "a/b", None, "refs/pr/7"),
            ("hf:a/b/Q8_0.gguf", "a/b", Some("Q8_0.gguf"), "main"),
            ("hf:a/b/BF16/x-00001-of-00002.GGUF@main", "a/b", Some("BF16/x-00001-of-00002.GGUF"), "main"),
        ] {
            let name = Name::of(Path::new(text)).unwrap().unwrap();
            assert_eq!((name.repository(), name.file(), name.revision()), (repository, file, revision));
            assert_eq!(name.to_string(), text);
        }
        assert_eq!(Name::parse("hf:a/b/c.gguf").unwrap().pinned("0f").to_string(), "hf:a/b/c.gguf@0f");
        assert_eq!(Name::of(Path::new("runs/hf:a")).unwrap(), None);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "hf:",
            "hf:gpt2",
            "hf://a/b",
            "hf:a/",
            "hf:../b",
            "hf:a/..",
            "hf:a--b/c",
            "hf:.a/b",
            "hf:a/b-",
            "hf:a b/c",
            "hf:é/b",
            "hf:a/b@",
            "hf:a/b@../x",
            "hf:a/b@x y",
            "hf:a/b@/x",
            "hf:a/b/model.bin",
            "hf:a/b/../c.gguf",
            "hf:a/b//c.gguf",
        ] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
    }
}
