//! How to reach an API server: a kubeconfig, or the service account of a pod.
//!
//! `Access -> Client`, by [`Access::connect`], which also asks for the version. Files are read at every connect, so that
//! new credentials count without a restart.

use super::{
    error::{Error, OLDEST_MINOR, chain},
    request,
};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::Deserialize;
use std::path::PathBuf;

/// How to reach an API server.
#[derive(Debug, Clone)]
pub enum Access {
    /// By the service account that a pod has.
    InCluster,
    /// By the current context of a kubeconfig.
    Kubeconfig(PathBuf),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    major: String,
    minor: String,
    git_version: String,
}

impl Access {
    /// A client for an API server that is there and not too old.
    ///
    /// # Errors
    /// What does not work, and what to do.
    pub async fn connect(&self) -> Result<Client, Error> {
        let client = self.client().await?;
        let answer = match request::get(&client, "/version", None).await {
            // Who may not ask for the version finds out by what works.
            Err(Error::Answer { status: 403, .. }) => return Ok(client),
            answer => request::whole(answer?, "/version").await?,
        };
        let version: Version = serde_json::from_slice(&answer)
            .map_err(|error| Error::Unreadable(format!("its /version: {error}; see whether it is an API server")))?;
        match version.is_old() {
            true => Err(Error::TooOld(chain(&std::io::Error::other(version.git_version)))),
            false => Ok(client),
        }
    }

    /// The client that was kept, or else a new one, which is kept. Whoever meets an error lets it go.
    ///
    /// # Errors
    /// As [`Access::connect`].
    pub async fn keep(&self, kept: &mut Option<Client>) -> Result<Client, Error> {
        Ok(match kept {
            Some(client) => client.clone(),
            None => kept.insert(self.connect().await?).clone(),
        })
    }

    async fn client(&self) -> Result<Client, Error> {
        let mut config = match self {
            Access::InCluster => Config::incluster().map_err(|error| Error::NotInCluster(chain(&error)))?,
            Access::Kubeconfig(file) => {
                let wrong = |source| Error::Kubeconfig { file: file.clone(), source };
                let read = Kubeconfig::read_from(file).map_err(wrong)?;
                Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.map_err(wrong)?
            }
        };
        // Trying again is the follower's, who says meanwhile how old the state is.
        config.default_retry = false;
        Client::try_from(config).map_err(|error| Error::of_client(&error))
    }
}

impl Version {
    /// Providers write a minor version as "30+".
    fn is_old(&self) -> bool {
        let number = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u32>();
        match (number(&self.major), number(&self.minor)) {
            (Ok(major), Ok(minor)) => (major, minor) < (1, OLDEST_MINOR),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers_and_a_provider_s_plus_is_no_obstacle() {
        let old = |major: &str, minor: &str| {
            Version { major: major.to_owned(), minor: minor.to_owned(), git_version: String::new() }.is_old()
        };
        assert!(old("1", "29") && old("1", "9+"));
        assert!(!old("1", "30") && !old("1", "30+") && !old("1", "131") && !old("2", "0") && !old("", ""));
    }
}
