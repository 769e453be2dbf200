//! What a person is told when something cannot be had: what it is, where it was looked for, and what to do
//! next.

use anyhow::{Error, anyhow};

use super::download::Failure;
use super::http::Trouble;
use super::{Hub, Kind, Name, Repository};

impl Hub {
    /// A failure in words; `file` where it is about one.
    pub(super) fn explain(&self, kind: Kind, name: &Name, file: Option<&str>, failure: Failure) -> Error {
        let what = file.map_or_else(|| name.to_string(), |file| format!("{file} of {name}"));
        match failure {
            Failure::Here(error) => error,
            Failure::Unlike(how) => anyhow!(
                "{what}: what was downloaded is not what the hub has: {how}. Nothing of it is kept; try again, and check \
                 HF_ENDPOINT and proxies if it stays so"
            ),
            Failure::Hub(Trouble::Away(why)) => anyhow!(
                "{what}: the download broke off ({why}). What came is kept: the same command goes on with it"
            ),
            Failure::Hub(Trouble::Refused(status, code)) => {
                self.refused(kind, name, status, &code).context(format!("cannot read {what}"))
            }
        }
    }

    /// What the hub answers where it refuses.
    fn refused(&self, kind: Kind, name: &Name, status: u16, code: &str) -> Error {
        let endpoint = &self.settings.endpoint;
        let page = format!("{endpoint}/{}{}", kind.prefix(), name.repository());
        let (kind, repository) = (kind.words(), name.repository());
        let has_token = self.settings.token.is_some();
        match (status, code) {
            (_, "RevisionNotFound") => anyhow!(
                "there is no revision {:?} of {repository} (status {status}): name a branch, a tag or a commit of {page}",
                name.revision()
            ),
            (_, "GatedRepo") | (403, _) => anyhow!(
                "access to {repository} is restricted (status {status}): accept its terms at {page}, and set HF_TOKEN to a \
                 token of the account that accepted them ({endpoint}/settings/tokens)"
            ),
            (401, _) if has_token => anyhow!(
                "the hub does not let the account of the token read {repository} (status 401): either there is no such \
                 {kind}, or it is private, or the token is no longer good; look at {page} and set HF_TOKEN to another one \
                 ({endpoint}/settings/tokens)"
            ),
            (401, _) => anyhow!(
                "either there is no {kind} {repository}, or it is private or gated (status 401): check owner and name at \
                 {page}; where it asks for it, accept its terms, and set HF_TOKEN to a token of your account \
                 ({endpoint}/settings/tokens)"
            ),
            (404, _) => anyhow!(
                "there is no {kind} {repository} at {endpoint} (status 404): check owner and name at {page}; a private one \
                 needs HF_TOKEN"
            ),
            _ => anyhow!("{page} answers with status {status} {code}"),
        }
    }

    /// Something is not in the cache and cannot be asked for.
    pub(super) fn missing(&self, kind: Kind, name: &Name, what: &str, away: &str) -> Error {
        let or_else = match self.settings.offline {
            true => "unset HF_HUB_OFFLINE",
            false => "connect this machine, or set HF_ENDPOINT to a mirror that it reaches",
        };
        let option = match kind {
            Kind::Model => "",
            Kind::Dataset => " --repo-type dataset",
        };
        anyhow!("{away}").context(format!(
            "{name}: {what} is not in the cache {}. Either {or_else}; or download it on another machine (hf \
             download{option} {} --revision {} --local-dir DIR), copy that directory here and name it instead",
            self.settings.cache.display(),
            name.repository(),
            name.revision()
        ))
    }
}

impl Repository<'_> {
    /// Something is not in the cache and cannot be asked for.
    pub(super) fn missing(&self, what: &str) -> Error {
        let away = self.away.as_deref().unwrap_or("the hub does not have it");
        self.hub.missing(self.kind, &self.name, what, away)
    }
}
