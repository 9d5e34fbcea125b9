//! States: a file system in the making, and the context that the next process finds in it.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::definition::Definition;
use super::env::Env;
use super::metadata::Constraints;
use super::path;
use super::platform::Platform;
use super::vertex::{Kind, Output};

/// How the processes of an exec op reach the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The builder's network; needs an entitlement.
    Host,
    /// No network at all.
    None,
    /// A network of their own, with the outside behind it.
    #[default]
    Sandbox,
}

/// How much the processes of an exec op may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// Everything; needs an entitlement.
    Insecure,
    /// What a container may.
    #[default]
    Sandbox,
}

/// A name for an address, for the processes of exec ops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The name.
    pub host: String,
    /// The address.
    pub address: IpAddr,
}

/// A limit of the processes of exec ops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// `nofile` and its like.
    pub name: String,
    /// What applies; -1 is no limit.
    pub soft: i64,
    /// What the process may raise it to; -1 is no limit.
    pub hard: i64,
}

/// An immutable file system in the making: nothing is run or even written down until it is
/// marshalled.
///
/// Each method makes a new state; clones are cheap and share what they have in common. The state
/// without any op is the empty file system ([`State::scratch`]).
///
/// ```
/// use bk_sync::llb::{Caps, Constraints, Defaults, Exec, FileAction, Image, Platform, State};
///
/// # fn main() -> Result<(), bk_sync::llb::Error> {
/// let platform = Platform::new("linux", "arm64");
/// let base = Image::new("docker.io/library/alpine:3.21")
///     .state(Constraints::named("a small base").platform(platform.clone()));
/// let built = base
///     .dir("/src")
///     .env("CFLAGS", "-O2")
///     .run(Exec::new(["/bin/sh", "-c", "make install"]), Constraints::new());
/// let slim = State::scratch().file(
///     vec![FileAction::copy(&built, "/usr/local/bin/tool", "/tool")],
///     Constraints::new(),
/// );
/// let definition = slim.marshal(&Defaults::new(platform, Some(Caps::all())))?;
/// assert_eq!(definition.ops().len(), 4);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct State {
    output: Option<Output>,
    context: Arc<Context>,
}

#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) env: Env,
    pub(super) dir: Arc<str>,
    pub(super) user: Arc<str>,
    pub(super) hostname: Arc<str>,
    pub(super) cgroup_parent: Arc<str>,
    pub(super) platform: Option<Arc<Platform>>,
    pub(super) network: Network,
    pub(super) security: Security,
    pub(super) hosts: Arc<Vec<HostAddress>>,
    pub(super) ulimits: Arc<Vec<Ulimit>>,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            env: Env::default(),
            dir: "/".into(),
            user: "".into(),
            hostname: "".into(),
            cgroup_parent: "".into(),
            platform: None,
            network: Network::default(),
            security: Security::default(),
            hosts: Arc::default(),
            ulimits: Arc::default(),
        }
    }
}

impl State {
    /// The empty file system.
    pub fn scratch() -> Self {
        Self::default()
    }

    /// A state that starts from the result of a graph that was marshalled before. Its ops are taken
    /// over as they are, so that they have the digests that they have there.
    pub fn from_definition(definition: Definition) -> Self {
        let Some(head) = definition.head_input() else { return Self::scratch() };
        let index = head.index;
        let kind = Kind::Built(Arc::new(definition));
        Self::from_output(Output::of(kind, Constraints::new(), index))
    }

    /// A state that starts from an output.
    pub fn from_output(output: Output) -> Self {
        Self::scratch().with_output(Some(output))
    }

    /// The same context around another file system.
    #[must_use]
    pub fn with_output(self, output: Option<Output>) -> Self {
        let platform = output.as_ref().and_then(Output::platform).cloned();
        let state = Self { output, ..self };
        match platform {
            Some(platform) => state.platform(&platform),
            None => state,
        }
    }

    /// The file system, unless it is empty.
    pub fn output(&self) -> Option<&Output> {
        self.output.as_ref()
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(self, name: &str, value: &str) -> Self {
        self.changed(|context| context.env.set(name, value))
    }

    /// Sets the variables of a list again: [`Env::set_again`].
    #[must_use]
    pub(crate) fn env_again<'v>(self, find: impl Fn(&str) -> Option<(usize, &'v str)>) -> Self {
        self.changed(|context| context.env.set_again(find))
    }

    /// Without any environment variable.
    #[must_use]
    pub fn without_env(self) -> Self {
        self.changed(|context| context.env = Env::default())
    }

    /// The environment.
    pub fn environment(&self) -> &Env {
        &self.context.env
    }

    /// Sets the working directory, relative to the present one.
    #[must_use]
    pub fn dir(self, dir: &str) -> Self {
        self.changed(|context| {
            context.dir = if dir.starts_with('/') {
                dir.into()
            } else {
                let base = if context.dir.is_empty() { "/" } else { &context.dir };
                path::join([base, dir]).into()
            };
        })
    }

    /// The working directory.
    pub fn working_dir(&self) -> &str {
        &self.context.dir
    }

    /// Sets who runs processes, as `user[:group]`, names or numbers.
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        self.changed(|context| context.user = user.into())
    }

    /// Sets the host name that processes see.
    #[must_use]
    pub fn hostname(self, hostname: &str) -> Self {
        self.changed(|context| context.hostname = hostname.into())
    }

    /// Sets the control group under which containers are made.
    #[must_use]
    pub fn cgroup_parent(self, parent: &str) -> Self {
        self.changed(|context| context.cgroup_parent = parent.into())
    }

    /// Sets the platform of the processes, in normal form.
    #[must_use]
    pub fn platform(self, platform: &Platform) -> Self {
        self.changed(|context| context.platform = Some(Arc::new(platform.normalized())))
    }

    /// The platform, where one is set.
    pub fn platform_of(&self) -> Option<&Platform> {
        self.context.platform.as_deref()
    }

    /// Sets how processes reach the network.
    #[must_use]
    pub fn network(self, network: Network) -> Self {
        self.changed(|context| context.network = network)
    }

    /// Sets how much processes may do.
    #[must_use]
    pub fn security(self, security: Security) -> Self {
        self.changed(|context| context.security = security)
    }

    /// Adds a name for an address.
    #[must_use]
    pub fn host(self, host: &HostAddress) -> Self {
        self.changed(|context| Arc::make_mut(&mut context.hosts).push(host.clone()))
    }

    /// Adds a limit for processes.
    #[must_use]
    pub fn ulimit(self, ulimit: &Ulimit) -> Self {
        self.changed(|context| Arc::make_mut(&mut context.ulimits).push(ulimit.clone()))
    }

    /// Identifier and attributes, where the state is made of exactly one source and nothing that
    /// was decided on later.
    pub fn only_source(&self) -> Option<(&str, &BTreeMap<String, String>)> {
        let mut found = None;
        let mut waiting: Vec<&Output> = self.output.iter().collect();
        while let Some(output) = waiting.pop() {
            match output.source() {
                Some(_) if found.is_some() => return None,
                Some(source) => found = Some(source),
                None => waiting.extend(output.made_of()),
            }
        }
        found
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    fn changed(mut self, change: impl FnOnce(&mut Context)) -> Self {
        change(Arc::make_mut(&mut self.context));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_not_changed_by_what_is_built_on_it() {
        let base = State::scratch().dir("/a").env("X", "1");
        let child = base.clone().dir("b/../c").env("X", "2").user("u");
        assert_eq!(base.working_dir(), "/a");
        assert_eq!(base.environment().get("X"), Some("1"));
        assert_eq!(child.working_dir(), "/a/c");
        assert_eq!(child.environment().get("X"), Some("2"));
    }

    #[test]
    fn platforms_of_states_are_in_normal_form() {
        let platform = Platform { variant: "v8".into(), ..Platform::new("linux", "arm64") };
        let state = State::scratch().platform(&platform);
        assert_eq!(state.platform_of().map(Platform::format), Some("linux/arm64".into()));
    }
}
