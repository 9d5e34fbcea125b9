//! Processes: what runs in a state, with what mounted where.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::caps::{self, Caps};
use super::definition::Defaults;
use super::error::Error;
use super::metadata::Constraints;
use super::platform::Platform;
use super::state::{Context, HostAddress, Network, Security, State, Ulimit};
use super::vertex::{Kind, Output};
use crate::proto::pb;

/// Where commands are looked for where nothing says so, except on Windows.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The index that means no input, and no output.
pub(super) const NONE: i64 = -1;

/// Who may use a cache mount at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// One at a time, the others wait.
    Locked,
    /// Whoever comes second gets a cache of their own.
    Private,
    /// All at once.
    #[default]
    Shared,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum MountKind {
    Bind,
    Cache { id: String, sharing: Sharing },
    Memory { size: i64 },
}

/// A directory or file that a process finds at a path.
#[derive(Clone, Debug)]
pub struct Mount {
    target: String,
    kind: MountKind,
    source: Option<Output>,
    selector: String,
    readonly: bool,
    no_output: bool,
}

impl Mount {
    /// The content of a state; what the process changes there is an output of its own.
    pub fn bind(target: impl Into<String>, source: &State) -> Self {
        Self {
            target: target.into(),
            kind: MountKind::Bind,
            source: source.output().cloned(),
            selector: String::new(),
            readonly: false,
            no_output: false,
        }
    }

    /// A directory that is kept from build to build, starting from a state.
    pub fn cache(
        target: impl Into<String>,
        source: &State,
        id: impl Into<String>,
        sharing: Sharing,
    ) -> Self {
        Self { kind: MountKind::Cache { id: id.into(), sharing }, ..Self::bind(target, source) }
    }

    /// An empty directory in memory; a size of 0 bytes is the builder's default.
    pub fn memory(target: impl Into<String>, size: i64) -> Self {
        Self { kind: MountKind::Memory { size }, ..Self::bind(target, &State::scratch()) }
    }

    /// Mounts only this path of the state.
    #[must_use]
    pub fn selector(mut self, path: impl Into<String>) -> Self {
        self.selector = path.into();
        self
    }

    /// Lets the process read only.
    #[must_use]
    pub fn readonly(mut self) -> Self {
        self.readonly = true;
        self
    }

    /// Throws away what the process changes.
    #[must_use]
    pub fn no_output(mut self) -> Self {
        self.no_output = true;
        self
    }

    fn has_output(&self) -> bool {
        !self.no_output && !self.readonly && self.kind == MountKind::Bind
    }
}

/// Owner and permissions of a secret or socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Permissions.
    pub mode: u32,
}

/// A secret of the client's session, as a file, a variable or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The name that the session knows it by.
    pub id: String,
    /// The path of the file.
    pub target: Option<String>,
    /// The name of the variable.
    pub env: Option<String>,
    /// Owner and permissions of the file.
    pub file: FileOptions,
    /// Whether the process runs without it too.
    pub optional: bool,
}

/// An agent socket of the client's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshSocket {
    /// The name that the session knows it by; empty is the default agent.
    pub id: String,
    /// The path of the socket; empty is one that the builder's processes look in by default.
    pub target: String,
    /// Owner and permissions of the socket.
    pub file: FileOptions,
    /// Whether the process runs without it too.
    pub optional: bool,
}

/// A device in the words of the Container Device Interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name, as `vendor.com/class=name`.
    pub name: String,
    /// Whether the process runs without it too.
    pub optional: bool,
}

/// Proxies that a process finds in its environment and that do not change its cache key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyEnv {
    /// `HTTP_PROXY`.
    pub http: String,
    /// `HTTPS_PROXY`.
    pub https: String,
    /// `FTP_PROXY`.
    pub ftp: String,
    /// `NO_PROXY`.
    pub no: String,
    /// `ALL_PROXY`.
    pub all: String,
}

/// A process to run in a state.
#[derive(Clone, Debug, Default)]
pub struct Exec {
    args: Vec<String>,
    mounts: Vec<Mount>,
    secrets: Vec<Secret>,
    sockets: Vec<SshSocket>,
    devices: Vec<Device>,
    proxy: Option<ProxyEnv>,
    readonly_root: bool,
    valid_exit_codes: Vec<i32>,
    network: Option<Network>,
    security: Option<Security>,
    hosts: Vec<HostAddress>,
    ulimits: Vec<Ulimit>,
    cgroup_parent: Option<String>,
}

impl Exec {
    /// A process by its command line.
    pub fn new<I, T>(args: I) -> Self
    where
        I: IntoIterator<Item = T>,
        T: Into<String>,
    {
        Self { args: args.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Mounts something.
    #[must_use]
    pub fn mount(mut self, mount: Mount) -> Self {
        self.mounts.push(mount);
        self
    }

    /// Hands over a secret.
    #[must_use]
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Hands over an agent socket.
    #[must_use]
    pub fn ssh(mut self, socket: SshSocket) -> Self {
        self.sockets.push(socket);
        self
    }

    /// Hands over a device.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.devices.push(device);
        self
    }

    /// Sets proxies.
    #[must_use]
    pub fn proxy(mut self, proxy: ProxyEnv) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// Lets the process write nowhere but into its mounts.
    #[must_use]
    pub fn readonly_root(mut self) -> Self {
        self.readonly_root = true;
        self
    }

    /// The exit codes that are no failure, where that is not 0 alone.
    #[must_use]
    pub fn valid_exit_codes(mut self, codes: Vec<i32>) -> Self {
        self.valid_exit_codes = codes;
        self
    }

    /// How this process reaches the network.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = Some(network);
        self
    }

    /// How much this process may do.
    #[must_use]
    pub fn security(mut self, security: Security) -> Self {
        self.security = Some(security);
        self
    }

    /// Adds a name for an address for this process.
    #[must_use]
    pub fn host(mut self, host: HostAddress) -> Self {
        self.hosts.push(host);
        self
    }

    /// Adds a limit for this process.
    #[must_use]
    pub fn ulimit(mut self, ulimit: Ulimit) -> Self {
        self.ulimits.push(ulimit);
        self
    }

    /// The control group under which this process runs.
    #[must_use]
    pub fn cgroup_parent(mut self, parent: impl Into<String>) -> Self {
        self.cgroup_parent = Some(parent.into());
        self
    }
}

/// What came of a process: its root, and what it changed in its mounts.
#[derive(Clone, Debug)]
pub struct Ran {
    root: State,
    op: Option<Output>,
}

impl Ran {
    /// The file system after the process.
    pub fn root(self) -> State {
        self.root
    }

    /// What the process left in a mount.
    ///
    /// # Errors
    /// [`Error::NoOutput`] where nothing is mounted there or where nothing is kept of it.
    pub fn mount(&self, target: &str) -> Result<State, Error> {
        let none = || Error::NoOutput(target.into());
        let op = self.op.as_ref().ok_or_else(none)?;
        let Kind::Exec(exec) = &op.vertex.kind else { return Err(none()) };
        let index = exec.output_index(target).ok_or_else(none)?;
        Ok(State::from_output(Output { vertex: Arc::clone(&op.vertex), index }))
    }
}

impl State {
    /// Runs a process in this state.
    #[must_use]
    pub fn run(self, exec: Exec, constraints: Constraints) -> Self {
        self.start(exec, constraints).root()
    }

    /// Runs a process in this state and keeps its mounts at hand.
    pub fn start(self, exec: Exec, constraints: Constraints) -> Ran {
        let readonly = exec.readonly_root;
        let op = ExecOp::new(&self, exec);
        let index = op.output_index("/");
        let platform = constraints.platform.clone();
        let output = Output::of(Kind::Exec(op), constraints, index.unwrap_or_default());
        let root = if readonly { self } else { self.with_output(Some(output.clone())) };
        let root = match platform {
            Some(platform) => root.platform(&platform),
            None => root,
        };
        Ran { root, op: Some(output) }
    }
}

#[derive(Debug)]
pub(super) struct ExecOp {
    args: Vec<String>,
    context: Arc<Context>,
    mounts: Vec<Mount>,
    secrets: Vec<Secret>,
    sockets: Vec<SshSocket>,
    devices: Vec<Device>,
    proxy: Option<ProxyEnv>,
    valid_exit_codes: Vec<i32>,
}

impl ExecOp {
    fn new(base: &State, exec: Exec) -> Self {
        let mut context = Arc::clone(base.context());
        let changes = exec.network.is_some()
            || exec.security.is_some()
            || exec.cgroup_parent.is_some()
            || !exec.hosts.is_empty()
            || !exec.ulimits.is_empty();
        if changes {
            let own = Arc::make_mut(&mut context);
            own.network = exec.network.unwrap_or(own.network);
            own.security = exec.security.unwrap_or(own.security);
            if let Some(parent) = exec.cgroup_parent {
                own.cgroup_parent = parent.into();
            }
            if !exec.hosts.is_empty() {
                Arc::make_mut(&mut own.hosts).extend(exec.hosts);
            }
            if !exec.ulimits.is_empty() {
                Arc::make_mut(&mut own.ulimits).extend(exec.ulimits);
            }
        }
        let mut root = Mount::bind("/", base);
        root.readonly = exec.readonly_root;
        let mut mounts = vec![root];
        mounts.extend(exec.mounts);
        mounts.sort_by(|a, b| a.target.as_bytes().cmp(b.target.as_bytes()));
        Self {
            args: exec.args,
            context,
            mounts,
            secrets: exec.secrets,
            sockets: exec.sockets,
            devices: exec.devices,
            proxy: exec.proxy,
            valid_exit_codes: exec.valid_exit_codes,
        }
    }

    pub(super) fn inputs(&self) -> Vec<&Output> {
        self.mounts.iter().filter_map(|mount| mount.source.as_ref()).collect()
    }

    pub(super) fn take_inputs(&mut self) -> Vec<Output> {
        self.mounts.iter_mut().filter_map(|mount| mount.source.take()).collect()
    }

    /// The base's platform, for a process that was given none.
    pub(super) fn platform(&self) -> Option<&Platform> {
        self.context.platform.as_deref()
    }

    fn output_index(&self, target: &str) -> Option<i64> {
        let mut with_output = self.mounts.iter().filter(|mount| mount.has_output());
        with_output.position(|mount| mount.target == target).and_then(|at| i64::try_from(at).ok())
    }

    /// The op, the capabilities it needs, and its inputs as `resolve` names them.
    pub(super) fn to_pb(
        &self,
        constraints: &Constraints,
        defaults: &Defaults,
        mut resolve: impl FnMut(&Output) -> Result<pb::Input, Error>,
    ) -> Result<(pb::ExecOp, Vec<pb::Input>, BTreeSet<&'static str>), Error> {
        if self.args.is_empty() {
            return Err(Error::NoArguments);
        }
        if self.context.dir.is_empty() {
            return Err(Error::NoDirectory);
        }
        let mut caps = BTreeSet::from([caps::EXEC_BASE]);
        let mut inputs = Vec::new();
        let mut known: HashMap<(String, i64), i64> = HashMap::new();
        let mut mounts = Vec::with_capacity(self.mounts.len());
        let mut outputs = 0;
        for mount in &self.mounts {
            let input = match &mount.source {
                None => NONE,
                Some(_) if matches!(mount.kind, MountKind::Memory { .. }) => {
                    return Err(Error::MemoryMountWithSource(mount.target.clone()));
                }
                Some(source) => {
                    let input = resolve(source)?;
                    let next = i64::try_from(inputs.len()).unwrap_or(i64::MAX);
                    let key = (input.digest.clone(), input.index);
                    *known.entry(key).or_insert_with(|| {
                        inputs.push(input);
                        next
                    })
                }
            };
            let output = if mount.has_output() {
                outputs += 1;
                outputs - 1
            } else {
                NONE
            };
            mounts.push(mount.to_pb(input, output));
            mount.needs(&mut caps);
        }
        let secretenv = self.add_secrets(&mut mounts, &mut caps);
        let targets = self.add_sockets(&mut mounts, &mut caps);
        let meta = self.meta(constraints, defaults, targets.first(), &mut caps);
        let exec = pb::ExecOp {
            meta: Some(meta),
            mounts,
            network: match self.context.network {
                Network::Host => pb::NetMode::Host,
                Network::None => pb::NetMode::None,
                Network::Sandbox => pb::NetMode::Unset,
            }
            .into(),
            security: match self.context.security {
                Security::Insecure => pb::SecurityMode::Insecure,
                Security::Sandbox => pb::SecurityMode::Sandbox,
            }
            .into(),
            secretenv,
            cdi_devices: self
                .devices
                .iter()
                .map(|device| pb::CdiDevice {
                    name: device.name.clone(),
                    optional: device.optional,
                })
                .collect(),
        };
        if self.context.network != Network::Sandbox {
            caps.insert(caps::EXEC_NETWORK);
        }
        if self.context.security != Security::Sandbox {
            caps.insert(caps::EXEC_SECURITY);
        }
        if !self.devices.is_empty() {
            caps.insert(caps::EXEC_CDI);
        }
        Ok((exec, inputs, caps))
    }

    fn meta(
        &self,
        constraints: &Constraints,
        defaults: &Defaults,
        socket: Option<&String>,
        caps: &mut BTreeSet<&'static str>,
    ) -> pb::Meta {
        let context = &self.context;
        let mut env = context.env.clone();
        if let Some(socket) = socket {
            env.set_default("SSH_AUTH_SOCK", socket);
        }
        if let Some(supported) = &defaults.caps {
            default_path(supported, defaults, &mut env, caps);
        }
        if !self.valid_exit_codes.is_empty() {
            caps.insert(caps::EXEC_VALID_EXIT_CODE);
        }
        if !context.ulimits.is_empty() {
            caps.insert(caps::EXEC_ULIMIT);
        }
        if constraints.linux_resources.is_some() {
            caps.insert(caps::EXEC_LINUX_RESOURCES);
        }
        if self.proxy.is_some() {
            caps.insert(caps::EXEC_PROXY);
        }
        pb::Meta {
            args: self.args.clone(),
            env: env.to_list(),
            cwd: context.dir.to_string(),
            user: context.user.to_string(),
            proxy_env: self.proxy.as_ref().map(|proxy| pb::ProxyEnv {
                http_proxy: proxy.http.clone(),
                https_proxy: proxy.https.clone(),
                ftp_proxy: proxy.ftp.clone(),
                no_proxy: proxy.no.clone(),
                all_proxy: proxy.all.clone(),
            }),
            extra_hosts: context
                .hosts
                .iter()
                .map(|host| pb::HostIp { host: host.host.clone(), ip: host.address.to_string() })
                .collect(),
            hostname: context.hostname.to_string(),
            ulimit: context
                .ulimits
                .iter()
                .map(|limit| pb::Ulimit {
                    name: limit.name.clone(),
                    soft: limit.soft,
                    hard: limit.hard,
                })
                .collect(),
            cgroup_parent: context.cgroup_parent.to_string(),
            remove_mount_stubs_recursive: true,
            valid_exit_codes: self.valid_exit_codes.clone(),
        }
    }

    fn add_secrets(
        &self,
        mounts: &mut Vec<pb::Mount>,
        caps: &mut BTreeSet<&'static str>,
    ) -> Vec<pb::SecretEnv> {
        let mut variables = Vec::new();
        for secret in &self.secrets {
            caps.insert(caps::MOUNT_SECRET);
            if let Some(name) = &secret.env {
                caps.insert(caps::EXEC_SECRET_ENV);
                variables.push(pb::SecretEnv {
                    id: secret.id.clone(),
                    name: name.clone(),
                    optional: secret.optional,
                });
            }
            if let Some(target) = &secret.target {
                mounts.push(pb::Mount {
                    input: NONE,
                    dest: target.clone(),
                    mount_type: pb::MountType::Secret.into(),
                    secret_opt: Some(pb::SecretOpt {
                        id: secret.id.clone(),
                        uid: secret.file.uid,
                        gid: secret.file.gid,
                        mode: secret.file.mode,
                        optional: secret.optional,
                    }),
                    ..pb::Mount::default()
                });
            }
        }
        variables
    }

    /// Adds the sockets and says where they are.
    fn add_sockets(
        &self,
        mounts: &mut Vec<pb::Mount>,
        caps: &mut BTreeSet<&'static str>,
    ) -> Vec<String> {
        let mut targets = Vec::with_capacity(self.sockets.len());
        for (at, socket) in self.sockets.iter().enumerate() {
            caps.insert(caps::MOUNT_SSH);
            let target = if socket.target.is_empty() {
                format!("/run/buildkit/ssh_agent.{at}")
            } else {
                socket.target.clone()
            };
            mounts.push(pb::Mount {
                input: NONE,
                dest: target.clone(),
                mount_type: pb::MountType::Ssh.into(),
                ssh_opt: Some(pb::SshOpt {
                    id: socket.id.clone(),
                    uid: socket.file.uid,
                    gid: socket.file.gid,
                    mode: socket.file.mode,
                    optional: socket.optional,
                }),
                ..pb::Mount::default()
            });
            targets.push(target);
        }
        targets
    }
}

/// A builder that sets `PATH` itself is trusted to; for an older one it is set here.
fn default_path(
    supported: &Caps,
    defaults: &Defaults,
    env: &mut super::env::Env,
    caps: &mut BTreeSet<&'static str>,
) {
    if supported.supports(caps::EXEC_SETS_DEFAULT_PATH) {
        caps.insert(caps::EXEC_SETS_DEFAULT_PATH);
    } else if defaults.platform.os != "windows" {
        env.set_default("PATH", DEFAULT_PATH);
    }
}

impl Mount {
    fn to_pb(&self, input: i64, output: i64) -> pb::Mount {
        let mut mount = pb::Mount {
            input,
            output,
            dest: self.target.clone(),
            selector: self.selector.clone(),
            readonly: self.readonly,
            ..pb::Mount::default()
        };
        match &self.kind {
            MountKind::Bind => {}
            MountKind::Cache { id, sharing } => {
                mount.mount_type = pb::MountType::Cache.into();
                let sharing = match sharing {
                    Sharing::Locked => pb::CacheSharingOpt::Locked,
                    Sharing::Private => pb::CacheSharingOpt::Private,
                    Sharing::Shared => pb::CacheSharingOpt::Shared,
                };
                mount.cache_opt = Some(pb::CacheOpt { id: id.clone(), sharing: sharing.into() });
            }
            MountKind::Memory { size } => {
                mount.mount_type = pb::MountType::Tmpfs.into();
                mount.tmpfs_opt = Some(pb::TmpfsOpt { size: *size });
            }
        }
        mount
    }

    fn needs(&self, caps: &mut BTreeSet<&'static str>) {
        if !self.selector.is_empty() {
            caps.insert(caps::MOUNT_SELECTOR);
        }
        match self.kind {
            MountKind::Bind if self.source.is_some() => {
                caps.insert(caps::MOUNT_BIND);
            }
            MountKind::Bind => {}
            MountKind::Cache { .. } => {
                caps.extend([caps::MOUNT_CACHE, caps::MOUNT_CACHE_SHARING]);
            }
            MountKind::Memory { size } => {
                caps.insert(caps::MOUNT_TMPFS);
                if size > 0 {
                    caps.insert(caps::MOUNT_TMPFS_SIZE);
                }
            }
        }
    }
}
