//! Credentials that are handed in as values.

use super::{Credentials, Kind, Lookup, Origin, RegistryHost, Secret, Source};
use futures::future::{BoxFuture, ready};

/// The variable that our user's password is in. It is of no concern to the programs that we run.
pub const PASSWORD_VARIABLE: &str = "BK_SYNC_REGISTRY_PASSWORD";

/// A user and password for named registries. They are for these alone: a build pulls from many
/// registries, and none but the one meant may see the password.
#[derive(Clone, Debug)]
pub struct Given {
    hosts: Vec<RegistryHost>,
    credentials: Credentials,
}

impl Given {
    /// Credentials for `hosts`; `name` is what the user calls the place they were given in.
    pub fn new(
        hosts: Vec<RegistryHost>,
        username: impl Into<String>,
        password: Secret,
        name: impl Into<String>,
    ) -> Self {
        let credentials = Credentials {
            username: username.into(),
            secret: password,
            kind: Kind::Password,
            origin: Origin::Given { name: name.into() },
        };
        Self { hosts, credentials }
    }
}

impl Source for Given {
    fn lookup<'a>(&'a self, host: &'a RegistryHost) -> BoxFuture<'a, Lookup> {
        let credentials = self.hosts.contains(host).then(|| self.credentials.clone());
        Box::pin(ready(Lookup { credentials, ..Lookup::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::Given;
    use crate::credential::{RegistryHost, Secret, Source as _};

    #[tokio::test]
    async fn only_the_named_registries_get_them() {
        let hosts = vec![RegistryHost::new("ghcr.io")];
        let given = Given::new(hosts, "joe", Secret::new("pw"), "BK_SYNC_REGISTRY_PASSWORD");
        let found = given.lookup(&RegistryHost::new("ghcr.io")).await.credentials.unwrap();
        assert_eq!((found.username.as_str(), found.secret.expose()), ("joe", b"pw".as_slice()));
        assert_eq!(found.origin.to_string(), "`BK_SYNC_REGISTRY_PASSWORD`");
        assert!(given.lookup(&RegistryHost::new("docker.io")).await.credentials.is_none());
    }
}
