//! Where the hub is, where its cache lies, and who asks: the environment variables of Python's
//! `huggingface_hub`.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The hub itself.
const ENDPOINT: &str = "https://huggingface.co";

/// How the hub is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The hub's address without a slash at the end: `HF_ENDPOINT`.
    pub endpoint: String,
    /// The directory of cached repositories: `HF_HUB_CACHE`, else `HF_HOME/hub`, else
    /// `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// Who asks: `HF_TOKEN`, else what `hf auth login` left behind.
    pub token: Option<Token>,
    /// Whether only the cache is used: `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// Certificates to trust instead of Mozilla's, as networks need that look into connections:
    /// `SSL_CERT_FILE`.
    pub certificates: Option<PathBuf>,
    /// The wait after the first failure of a download; doubles with each further one.
    pub patience: Duration,
}

/// A secret; `{:?}` does not show it.
#[derive(Clone)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Settings {
    /// What the environment says.
    ///
    /// # Errors
    /// `HF_ENDPOINT` is no address.
    pub fn from_env() -> Result<Settings> {
        Settings::from_vars(|name| std::env::var_os(name), &std::env::home_dir().unwrap_or_default())
    }

    fn from_vars(var: impl Fn(&str) -> Option<OsString>, home: &Path) -> Result<Settings> {
        let set = |name: &str| var(name).filter(|value| !value.is_empty());
        let path = |name: &str| Some(expand(PathBuf::from(set(name)?), home));
        let text = |name: &str| {
            let value = set(name).map(OsString::into_string).transpose();
            // The value may be a secret.
            value.map_err(|_| anyhow::anyhow!("{name} is not UTF-8"))
        };
        let flag = |name: &str| -> Result<bool> {
            Ok(text(name)?.is_some_and(|value| {
                ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str())
            }))
        };

        let endpoint = text("HF_ENDPOINT")?.unwrap_or_else(|| ENDPOINT.into());
        ensure!(
            endpoint.starts_with("https://") || endpoint.starts_with("http://"),
            "HF_ENDPOINT is {endpoint:?}, which is no address such as {ENDPOINT}"
        );
        let caches = || path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
        let hf_home = path("HF_HOME").unwrap_or_else(|| caches().join("huggingface"));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));

        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| hf_home.join("token"));
        let token = match text("HF_TOKEN")? {
            None => text("HUGGING_FACE_HUB_TOKEN")?,
            token => token,
        };
        let token = match token {
            None if token_file.is_file() && !flag("HF_HUB_DISABLE_IMPLICIT_TOKEN")? => {
                let read = std::fs::read_to_string(&token_file);
                Some(read.with_context(|| format!("cannot read the token in {}", token_file.display()))?)
            }
            token => token,
        };
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        Ok(Settings {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: cache.unwrap_or_else(|| hf_home.join("hub")),
            token: token.map(Token),
            offline: flag("HF_HUB_OFFLINE")? || flag("TRANSFORMERS_OFFLINE")?,
            certificates: path("SSL_CERT_FILE"),
            patience: Duration::from_millis(500),
        })
    }
}

/// `~` at the beginning is the home directory.
fn expand(path: PathBuf, home: &Path) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) => home.join(rest),
        Err(_) => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)], home: &Path) -> Settings {
        let var = |name: &str| vars.iter().find(|var| var.0 == name).map(|var| var.1.into());
        Settings::from_vars(var, home).unwrap()
    }

    #[test]
    fn the_cache_lies_where_python_looks() {
        let home = Path::new("/home/me");
        for (vars, cache) in [
            (&[] as &[(&str, &str)], "/home/me/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/h/hub"),
            (&[("HF_HOME", "~/h")], "/home/me/h/hub"),
            (&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
            (&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/c"),
            (&[("HF_HOME", "")], "/home/me/.cache/huggingface/hub"),
        ] {
            assert_eq!(settings(vars, home).cache, Path::new(cache), "{vars:?}");
        }
    }

    #[test]
    fn flags_and_addresses() {
        let home = Path::new("/nowhere");
        let plain = settings(&[], home);
        assert!(plain.endpoint == ENDPOINT && !plain.offline && plain.token.is_none());
        assert_eq!(settings(&[("HF_ENDPOINT", "http://mirror/hub/")], home).endpoint, "http://mirror/hub");
        for (value, offline) in [("1", true), ("true", true), ("YES", true), ("0", false), ("", false)] {
            assert_eq!(settings(&[("HF_HUB_OFFLINE", value)], home).offline, offline, "{value}");
        }
        assert!(settings(&[("TRANSFORMERS_OFFLINE", "on")], home).offline);
        assert!(Settings::from_vars(|_| Some("mirror".into()), home).is_err());
    }

    #[test]
    fn a_token_is_found_and_never_shown() {
        let home = tempfile::tempdir().unwrap();
        let hf_home = home.path().to_str().unwrap();
        std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
        let token = |vars: &[(&str, &str)]| {
            let settings = settings(&[&[("HF_HOME", hf_home)], vars].concat(), home.path());
            assert!(!format!("{settings:?}").contains("hf_"), "{settings:?}");
            settings.token.map(|token| token.0)
        };
        assert_eq!(token(&[]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[("HF_TOKEN", "hf_mine\n")]).as_deref(), Some("hf_mine"));
        assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", "hf_old")]).as_deref(), Some("hf_old"));
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
    }
}
