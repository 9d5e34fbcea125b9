//! Names of registries, as credentials are filed under.

use std::fmt;

/// The names that Docker Hub goes by: in references, to the daemon, in old configs.
const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
/// What Docker files its Hub credentials under.
const HUB_SERVER: &str = "https://index.docker.io/v1/";

/// A registry by host and port, whatever form it was written in. All names of Docker Hub are equal.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RegistryHost(String);

impl RegistryHost {
    /// Reads a host (`ghcr.io`, `127.0.0.1:5000`), or the URL of a registry's API, which is how
    /// older configs name it (`https://ghcr.io/v2/`).
    pub fn new(name: &str) -> Self {
        let name = name.split_once("://").map_or(name, |(_, rest)| rest);
        let host = name.split_once('/').map_or(name, |(host, _)| host).to_ascii_lowercase();
        if HUB.contains(&host.as_str()) { Self("docker.io".to_owned()) } else { Self(host) }
    }

    /// `host[:port]`; `docker.io` for Docker Hub.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that credential helpers know it by.
    pub fn server(&self) -> &str {
        if self.0 == "docker.io" { HUB_SERVER } else { &self.0 }
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::RegistryHost;

    #[test]
    fn all_names_of_docker_hub_are_one() {
        for name in [
            "docker.io",
            "index.docker.io",
            "registry-1.docker.io",
            "https://index.docker.io/v1/",
            "https://registry-1.docker.io/v2/",
        ] {
            let host = RegistryHost::new(name);
            assert_eq!(
                (host.as_str(), host.server()),
                ("docker.io", "https://index.docker.io/v1/")
            );
        }
    }

    #[test]
    fn schemes_paths_and_case_do_not_matter_but_ports_do() {
        assert_eq!(RegistryHost::new("https://GHCR.io/v2/"), RegistryHost::new("ghcr.io"));
        assert_eq!(RegistryHost::new("http://127.0.0.1:5000").as_str(), "127.0.0.1:5000");
        assert_ne!(RegistryHost::new("127.0.0.1:5000"), RegistryHost::new("127.0.0.1:5001"));
        assert_eq!(RegistryHost::new("[::1]:5000").server(), "[::1]:5000");
    }
}
