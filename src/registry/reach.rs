//! How registries are reached: what the user and the machine say of them. Plain values.

use crate::credential::RegistryHost;
use std::collections::{BTreeMap, BTreeSet};

/// How registries are reached. The same for all registries of one run.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Registries that may be spoken to without TLS, or with a certificate that nobody vouches for.
    pub insecure: BTreeSet<RegistryHost>,
    /// Certificates of authorities beside the system's, in PEM, by the registry that they are for.
    pub authorities: BTreeMap<RegistryHost, Vec<Vec<u8>>>,
    /// The same, for every registry.
    pub common_authorities: Vec<Vec<u8>>,
    /// Where to read before the registry itself is asked: `host[:port]` or a URL.
    pub mirrors: BTreeMap<RegistryHost, Vec<String>>,
    /// Blobs that are sent to one registry at a time.
    pub parallel: Option<usize>,
}

impl Reach {
    /// Certificates for `host`: its own, and those for every registry.
    pub(super) fn authorities_of(&self, host: &RegistryHost) -> Vec<Vec<u8>> {
        let own = self.authorities.get(host).into_iter().flatten();
        own.chain(&self.common_authorities).cloned().collect()
    }
}
