//! The canonical bytes of LLB messages, and their JSON.
//!
//! A builder names an op by the digest of the op as *it* serialises it, so ours must be the same
//! bytes: fields by number, except that members of a `oneof` come last; map entries sorted by key
//! with both key and value always written; zero values left out. The generated encoder differs in
//! the first two, so each message is described once here ([`Message`]) and written by two sinks:
//! the wire and protojson.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

use crate::proto::pb;

/// A message that knows its fields in canonical order.
pub trait Message {
    /// Reports every field to `sink`, in the order in which they are serialised.
    fn fields<S: Sink>(&self, sink: &mut S);
}

/// Number and JSON name of a field.
#[derive(Clone, Copy)]
pub struct Field(pub u32, pub &'static str);

/// What takes the fields of a message.
///
/// Unless a method says otherwise, zero values are left out.
pub trait Sink {
    /// A text.
    fn string(&mut self, field: Field, value: &str);
    /// A list of texts, empty ones included.
    fn strings(&mut self, field: Field, values: &[String]);
    /// Bytes; base64 in JSON.
    fn bytes(&mut self, field: Field, value: &[u8]);
    /// A list of byte strings.
    fn byte_strings(&mut self, field: Field, values: &[Vec<u8>]);
    /// A signed 64-bit number; a text in JSON.
    fn int64(&mut self, field: Field, value: i64);
    /// A packed list of signed 64-bit numbers.
    fn int64s(&mut self, field: Field, values: &[i64]);
    /// An unsigned 64-bit number; a text in JSON.
    fn uint64(&mut self, field: Field, value: u64);
    /// A signed 32-bit number.
    fn int32(&mut self, field: Field, value: i32);
    /// A packed list of signed 32-bit numbers.
    fn int32s(&mut self, field: Field, values: &[i32]);
    /// An unsigned 32-bit number.
    fn uint32(&mut self, field: Field, value: u32);
    /// An unsigned 32-bit member of a `oneof`: zero is written too.
    fn chosen_uint32(&mut self, field: Field, value: u32);
    /// A truth value.
    fn boolean(&mut self, field: Field, value: bool);
    /// A value of an enumeration; its name in JSON.
    fn enumeration(&mut self, field: Field, value: i32, name: &'static str);
    /// A nested message; written where present, however empty.
    fn message<M: Message>(&mut self, field: Field, value: Option<&M>);
    /// A list of messages.
    fn messages<M: Message>(&mut self, field: Field, values: &[M]);
    /// A map from text to text.
    fn string_map(&mut self, field: Field, map: &BTreeMap<String, String>);
    /// A map from text to truth.
    fn bool_map(&mut self, field: Field, map: &BTreeMap<String, bool>);
    /// A map from text to messages.
    fn message_map<M: Message>(&mut self, field: Field, map: &BTreeMap<String, M>);
}

/// The canonical bytes of a message.
pub fn encode<M: Message>(message: &M) -> Vec<u8> {
    let mut sink = Wire { bytes: Vec::new() };
    message.fields(&mut sink);
    sink.bytes
}

/// The protojson value of a message.
pub fn to_json<M: Message>(message: &M) -> Value {
    let mut sink = Json { object: Map::new() };
    message.fields(&mut sink);
    Value::Object(sink.object)
}

struct Wire {
    bytes: Vec<u8>,
}

impl Wire {
    fn varint(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                self.bytes.push(low);
                return;
            }
            self.bytes.push(low | 0x80);
        }
    }

    fn number(&mut self, field: Field, value: u64) {
        self.varint(u64::from(field.0) << 3);
        self.varint(value);
    }

    fn slice(&mut self, field: Field, value: &[u8]) {
        self.varint(u64::from(field.0) << 3 | 2);
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    fn nested(&mut self, field: Field, write: impl FnOnce(&mut Self)) {
        let mut inner = Self { bytes: Vec::new() };
        write(&mut inner);
        self.slice(field, &inner.bytes);
    }
}

const KEY: Field = Field(1, "key");
const VALUE: Field = Field(2, "value");

impl Sink for Wire {
    fn string(&mut self, field: Field, value: &str) {
        if !value.is_empty() {
            self.slice(field, value.as_bytes());
        }
    }

    fn strings(&mut self, field: Field, values: &[String]) {
        for value in values {
            self.slice(field, value.as_bytes());
        }
    }

    fn bytes(&mut self, field: Field, value: &[u8]) {
        if !value.is_empty() {
            self.slice(field, value);
        }
    }

    fn byte_strings(&mut self, field: Field, values: &[Vec<u8>]) {
        for value in values {
            self.slice(field, value);
        }
    }

    fn int64(&mut self, field: Field, value: i64) {
        if value != 0 {
            self.number(field, value.cast_unsigned());
        }
    }

    fn int64s(&mut self, field: Field, values: &[i64]) {
        if !values.is_empty() {
            self.nested(field, |inner| {
                for value in values {
                    inner.varint(value.cast_unsigned());
                }
            });
        }
    }

    fn uint64(&mut self, field: Field, value: u64) {
        if value != 0 {
            self.number(field, value);
        }
    }

    fn int32(&mut self, field: Field, value: i32) {
        // Negative 32-bit numbers are sign-extended to 64 bits on the wire.
        self.int64(field, i64::from(value));
    }

    fn int32s(&mut self, field: Field, values: &[i32]) {
        if !values.is_empty() {
            self.nested(field, |inner| {
                for value in values {
                    inner.varint(i64::from(*value).cast_unsigned());
                }
            });
        }
    }

    fn uint32(&mut self, field: Field, value: u32) {
        self.uint64(field, u64::from(value));
    }

    fn chosen_uint32(&mut self, field: Field, value: u32) {
        self.number(field, u64::from(value));
    }

    fn boolean(&mut self, field: Field, value: bool) {
        self.uint64(field, u64::from(value));
    }

    fn enumeration(&mut self, field: Field, value: i32, _name: &'static str) {
        self.int32(field, value);
    }

    fn message<M: Message>(&mut self, field: Field, value: Option<&M>) {
        if let Some(message) = value {
            self.nested(field, |inner| message.fields(inner));
        }
    }

    fn messages<M: Message>(&mut self, field: Field, values: &[M]) {
        for message in values {
            self.nested(field, |inner| message.fields(inner));
        }
    }

    fn string_map(&mut self, field: Field, map: &BTreeMap<String, String>) {
        for (key, value) in map {
            self.nested(field, |entry| {
                entry.slice(KEY, key.as_bytes());
                entry.slice(VALUE, value.as_bytes());
            });
        }
    }

    fn bool_map(&mut self, field: Field, map: &BTreeMap<String, bool>) {
        for (key, value) in map {
            self.nested(field, |entry| {
                entry.slice(KEY, key.as_bytes());
                entry.number(VALUE, u64::from(*value));
            });
        }
    }

    fn message_map<M: Message>(&mut self, field: Field, map: &BTreeMap<String, M>) {
        for (key, value) in map {
            self.nested(field, |entry| {
                entry.slice(KEY, key.as_bytes());
                entry.nested(VALUE, |inner| value.fields(inner));
            });
        }
    }
}

struct Json {
    object: Map<String, Value>,
}

impl Json {
    fn set(&mut self, field: Field, value: Value) {
        self.object.insert(field.1.to_owned(), value);
    }
}

impl Sink for Json {
    fn string(&mut self, field: Field, value: &str) {
        if !value.is_empty() {
            self.set(field, value.into());
        }
    }

    fn strings(&mut self, field: Field, values: &[String]) {
        if !values.is_empty() {
            self.set(field, values.iter().map(String::as_str).collect());
        }
    }

    fn bytes(&mut self, field: Field, value: &[u8]) {
        if !value.is_empty() {
            self.set(field, STANDARD.encode(value).into());
        }
    }

    fn byte_strings(&mut self, field: Field, values: &[Vec<u8>]) {
        if !values.is_empty() {
            self.set(field, values.iter().map(|value| STANDARD.encode(value)).collect());
        }
    }

    fn int64(&mut self, field: Field, value: i64) {
        if value != 0 {
            self.set(field, value.to_string().into());
        }
    }

    fn int64s(&mut self, field: Field, values: &[i64]) {
        if !values.is_empty() {
            self.set(field, values.iter().map(ToString::to_string).collect());
        }
    }

    fn uint64(&mut self, field: Field, value: u64) {
        if value != 0 {
            self.set(field, value.to_string().into());
        }
    }

    fn int32(&mut self, field: Field, value: i32) {
        if value != 0 {
            self.set(field, value.into());
        }
    }

    fn int32s(&mut self, field: Field, values: &[i32]) {
        if !values.is_empty() {
            self.set(field, values.iter().copied().collect());
        }
    }

    fn uint32(&mut self, field: Field, value: u32) {
        if value != 0 {
            self.set(field, value.into());
        }
    }

    fn chosen_uint32(&mut self, field: Field, value: u32) {
        self.set(field, value.into());
    }

    fn boolean(&mut self, field: Field, value: bool) {
        if value {
            self.set(field, value.into());
        }
    }

    fn enumeration(&mut self, field: Field, value: i32, name: &'static str) {
        if value != 0 {
            self.set(field, name.into());
        }
    }

    fn message<M: Message>(&mut self, field: Field, value: Option<&M>) {
        if let Some(message) = value {
            self.set(field, to_json(message));
        }
    }

    fn messages<M: Message>(&mut self, field: Field, values: &[M]) {
        if !values.is_empty() {
            self.set(field, values.iter().map(to_json).collect());
        }
    }

    fn string_map(&mut self, field: Field, map: &BTreeMap<String, String>) {
        if !map.is_empty() {
            let object: Map<String, Value> =
                map.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
            self.set(field, object.into());
        }
    }

    fn bool_map(&mut self, field: Field, map: &BTreeMap<String, bool>) {
        if !map.is_empty() {
            let object: Map<String, Value> =
                map.iter().map(|(key, value)| (key.clone(), (*value).into())).collect();
            self.set(field, object.into());
        }
    }

    fn message_map<M: Message>(&mut self, field: Field, map: &BTreeMap<String, M>) {
        if !map.is_empty() {
            let object: Map<String, Value> =
                map.iter().map(|(key, value)| (key.clone(), to_json(value))).collect();
            self.set(field, object.into());
        }
    }
}

/// Describes a message: `message!(Type, |value, sink| { … })`.
macro_rules! message {
    ($type:ty, |$value:ident, $sink:ident| $body:block) => {
        impl Message for $type {
            fn fields<S: Sink>(&self, $sink: &mut S) {
                let $value = self;
                $body
            }
        }
    };
}

message!(pb::Op, |op, sink| {
    sink.messages(Field(1, "inputs"), &op.inputs);
    sink.message(Field(10, "platform"), op.platform.as_ref());
    sink.message(Field(11, "constraints"), op.constraints.as_ref());
    match &op.op {
        None => {}
        Some(pb::op::Op::Exec(exec)) => sink.message(Field(2, "exec"), Some(exec)),
        Some(pb::op::Op::Source(source)) => sink.message(Field(3, "source"), Some(source)),
        Some(pb::op::Op::File(file)) => sink.message(Field(4, "file"), Some(file)),
        Some(pb::op::Op::Build(build)) => sink.message(Field(5, "build"), Some(build)),
        Some(pb::op::Op::Merge(merge)) => sink.message(Field(6, "merge"), Some(merge)),
        Some(pb::op::Op::Diff(diff)) => sink.message(Field(7, "diff"), Some(diff)),
        Some(pb::op::Op::Passthrough(pass)) => sink.message(Field(8, "passthrough"), Some(pass)),
    }
});

message!(pb::Platform, |platform, sink| {
    sink.string(Field(1, "Architecture"), &platform.architecture);
    sink.string(Field(2, "OS"), &platform.os);
    sink.string(Field(3, "Variant"), &platform.variant);
    sink.string(Field(4, "OSVersion"), &platform.os_version);
    sink.strings(Field(5, "OSFeatures"), &platform.os_features);
});

message!(pb::Input, |input, sink| {
    sink.string(Field(1, "digest"), &input.digest);
    sink.int64(Field(2, "index"), input.index);
});

message!(pb::WorkerConstraints, |constraints, sink| {
    sink.strings(Field(1, "filter"), &constraints.filter);
});

message!(pb::ExecOp, |exec, sink| {
    sink.message(Field(1, "meta"), exec.meta.as_ref());
    sink.messages(Field(2, "mounts"), &exec.mounts);
    sink.enumeration(Field(3, "network"), exec.network, exec.network().as_str_name());
    sink.enumeration(Field(4, "security"), exec.security, exec.security().as_str_name());
    sink.messages(Field(5, "secretenv"), &exec.secretenv);
    sink.messages(Field(6, "cdiDevices"), &exec.cdi_devices);
});

message!(pb::Meta, |meta, sink| {
    sink.strings(Field(1, "args"), &meta.args);
    sink.strings(Field(2, "env"), &meta.env);
    sink.string(Field(3, "cwd"), &meta.cwd);
    sink.string(Field(4, "user"), &meta.user);
    sink.message(Field(5, "proxyEnv"), meta.proxy_env.as_ref());
    sink.messages(Field(6, "extraHosts"), &meta.extra_hosts);
    sink.string(Field(7, "hostname"), &meta.hostname);
    sink.messages(Field(9, "ulimit"), &meta.ulimit);
    sink.string(Field(10, "cgroupParent"), &meta.cgroup_parent);
    sink.boolean(Field(11, "removeMountStubsRecursive"), meta.remove_mount_stubs_recursive);
    sink.int32s(Field(12, "validExitCodes"), &meta.valid_exit_codes);
});

message!(pb::HostIp, |host, sink| {
    sink.string(Field(1, "Host"), &host.host);
    sink.string(Field(2, "IP"), &host.ip);
});

message!(pb::Ulimit, |ulimit, sink| {
    sink.string(Field(1, "Name"), &ulimit.name);
    sink.int64(Field(2, "Soft"), ulimit.soft);
    sink.int64(Field(3, "Hard"), ulimit.hard);
});

message!(pb::SecretEnv, |secret, sink| {
    sink.string(Field(1, "ID"), &secret.id);
    sink.string(Field(2, "name"), &secret.name);
    sink.boolean(Field(3, "optional"), secret.optional);
});

message!(pb::CdiDevice, |device, sink| {
    sink.string(Field(1, "name"), &device.name);
    sink.boolean(Field(2, "optional"), device.optional);
});

message!(pb::Mount, |mount, sink| {
    sink.int64(Field(1, "input"), mount.input);
    sink.string(Field(2, "selector"), &mount.selector);
    sink.string(Field(3, "dest"), &mount.dest);
    sink.int64(Field(4, "output"), mount.output);
    sink.boolean(Field(5, "readonly"), mount.readonly);
    sink.enumeration(Field(6, "mountType"), mount.mount_type, mount.mount_type().as_str_name());
    sink.message(Field(19, "TmpfsOpt"), mount.tmpfs_opt.as_ref());
    sink.message(Field(20, "cacheOpt"), mount.cache_opt.as_ref());
    sink.message(Field(21, "secretOpt"), mount.secret_opt.as_ref());
    sink.message(Field(22, "SSHOpt"), mount.ssh_opt.as_ref());
    sink.string(Field(23, "resultID"), &mount.result_id);
    let name = mount.content_cache().as_str_name();
    sink.enumeration(Field(24, "contentCache"), mount.content_cache, name);
});

message!(pb::TmpfsOpt, |tmpfs, sink| {
    sink.int64(Field(1, "size"), tmpfs.size);
});

message!(pb::CacheOpt, |cache, sink| {
    sink.string(Field(1, "ID"), &cache.id);
    sink.enumeration(Field(2, "sharing"), cache.sharing, cache.sharing().as_str_name());
});

message!(pb::SecretOpt, |secret, sink| {
    sink.string(Field(1, "ID"), &secret.id);
    sink.uint32(Field(2, "uid"), secret.uid);
    sink.uint32(Field(3, "gid"), secret.gid);
    sink.uint32(Field(4, "mode"), secret.mode);
    sink.boolean(Field(5, "optional"), secret.optional);
});

message!(pb::SshOpt, |ssh, sink| {
    sink.string(Field(1, "ID"), &ssh.id);
    sink.uint32(Field(2, "uid"), ssh.uid);
    sink.uint32(Field(3, "gid"), ssh.gid);
    sink.uint32(Field(4, "mode"), ssh.mode);
    sink.boolean(Field(5, "optional"), ssh.optional);
});

message!(pb::SourceOp, |source, sink| {
    sink.string(Field(1, "identifier"), &source.identifier);
    sink.string_map(Field(2, "attrs"), &source.attrs);
});

message!(pb::BuildOp, |build, sink| {
    sink.int64(Field(1, "builder"), build.builder);
    sink.message_map(Field(2, "inputs"), &build.inputs);
    sink.message(Field(3, "def"), build.def.as_ref());
    sink.string_map(Field(4, "attrs"), &build.attrs);
});

message!(pb::BuildInput, |input, sink| {
    sink.int64(Field(1, "input"), input.input);
});

message!(pb::PassthroughOp, |pass, sink| {
    sink.string(Field(1, "id"), &pass.id);
    sink.int64s(Field(2, "outputs"), &pass.outputs);
});

message!(pb::OpMetadata, |metadata, sink| {
    sink.boolean(Field(1, "ignoreCache"), metadata.ignore_cache);
    sink.string_map(Field(2, "description"), &metadata.description);
    sink.message(Field(4, "exportCache"), metadata.export_cache.as_ref());
    sink.bool_map(Field(5, "caps"), &metadata.caps);
    sink.message(Field(6, "progressGroup"), metadata.progress_group.as_ref());
    sink.message(Field(7, "linuxResources"), metadata.linux_resources.as_ref());
});

message!(pb::LinuxResources, |resources, sink| {
    sink.int64(Field(1, "memory"), resources.memory);
    sink.int64(Field(2, "memorySwap"), resources.memory_swap);
    sink.uint64(Field(3, "cpuShares"), resources.cpu_shares);
    sink.uint64(Field(4, "cpuPeriod"), resources.cpu_period);
    sink.int64(Field(5, "cpuQuota"), resources.cpu_quota);
    sink.string(Field(6, "cpusetCpus"), &resources.cpuset_cpus);
    sink.string(Field(7, "cpusetMems"), &resources.cpuset_mems);
});

message!(pb::Source, |source, sink| {
    sink.message_map(Field(1, "locations"), &source.locations);
    sink.messages(Field(2, "infos"), &source.infos);
});

message!(pb::Locations, |locations, sink| {
    sink.messages(Field(1, "locations"), &locations.locations);
});

message!(pb::SourceInfo, |info, sink| {
    sink.string(Field(1, "filename"), &info.filename);
    sink.bytes(Field(2, "data"), &info.data);
    sink.message(Field(3, "definition"), info.definition.as_ref());
    sink.string(Field(4, "language"), &info.language);
});

message!(pb::Location, |location, sink| {
    sink.int32(Field(1, "sourceIndex"), location.source_index);
    sink.messages(Field(2, "ranges"), &location.ranges);
});

message!(pb::Range, |range, sink| {
    sink.message(Field(1, "start"), range.start.as_ref());
    sink.message(Field(2, "end"), range.end.as_ref());
});

message!(pb::Position, |position, sink| {
    sink.int32(Field(1, "line"), position.line);
    sink.int32(Field(2, "character"), position.character);
});

message!(pb::ExportCache, |export, sink| {
    sink.boolean(Field(1, "Value"), export.value);
});

message!(pb::ProgressGroup, |group, sink| {
    sink.string(Field(1, "id"), &group.id);
    sink.string(Field(2, "name"), &group.name);
    sink.boolean(Field(3, "weak"), group.weak);
});

message!(pb::ProxyEnv, |proxy, sink| {
    sink.string(Field(1, "httpProxy"), &proxy.http_proxy);
    sink.string(Field(2, "httpsProxy"), &proxy.https_proxy);
    sink.string(Field(3, "ftpProxy"), &proxy.ftp_proxy);
    sink.string(Field(4, "noProxy"), &proxy.no_proxy);
    sink.string(Field(5, "allProxy"), &proxy.all_proxy);
});

message!(pb::Definition, |definition, sink| {
    sink.byte_strings(Field(1, "def"), &definition.def);
    sink.message_map(Field(2, "metadata"), &definition.metadata);
    sink.message(Field(3, "Source"), definition.source.as_ref());
});

message!(pb::FileOp, |file, sink| {
    sink.messages(Field(2, "actions"), &file.actions);
});

message!(pb::FileAction, |action, sink| {
    sink.int64(Field(1, "input"), action.input);
    sink.int64(Field(2, "secondaryInput"), action.secondary_input);
    sink.int64(Field(3, "output"), action.output);
    match &action.action {
        None => {}
        Some(pb::file_action::Action::Copy(copy)) => sink.message(Field(4, "copy"), Some(copy)),
        Some(pb::file_action::Action::Mkfile(file)) => sink.message(Field(5, "mkfile"), Some(file)),
        Some(pb::file_action::Action::Mkdir(dir)) => sink.message(Field(6, "mkdir"), Some(dir)),
        Some(pb::file_action::Action::Rm(rm)) => sink.message(Field(7, "rm"), Some(rm)),
        Some(pb::file_action::Action::Symlink(link)) => {
            sink.message(Field(8, "symlink"), Some(link));
        }
    }
});

message!(pb::FileActionCopy, |copy, sink| {
    sink.string(Field(1, "src"), &copy.src);
    sink.string(Field(2, "dest"), &copy.dest);
    sink.message(Field(3, "owner"), copy.owner.as_ref());
    sink.int32(Field(4, "mode"), copy.mode);
    sink.boolean(Field(5, "followSymlink"), copy.follow_symlink);
    sink.boolean(Field(6, "dirCopyContents"), copy.dir_copy_contents);
    let unpack = copy.attempt_unpack_docker_compatibility;
    sink.boolean(Field(7, "attemptUnpackDockerCompatibility"), unpack);
    sink.boolean(Field(8, "createDestPath"), copy.create_dest_path);
    sink.boolean(Field(9, "allowWildcard"), copy.allow_wildcard);
    sink.boolean(Field(10, "allowEmptyWildcard"), copy.allow_empty_wildcard);
    sink.int64(Field(11, "timestamp"), copy.timestamp);
    sink.strings(Field(12, "includePatterns"), &copy.include_patterns);
    sink.strings(Field(13, "excludePatterns"), &copy.exclude_patterns);
    let replace = copy.always_replace_existing_dest_paths;
    sink.boolean(Field(14, "alwaysReplaceExistingDestPaths"), replace);
    sink.string(Field(15, "modeStr"), &copy.mode_str);
    sink.strings(Field(16, "requiredPaths"), &copy.required_paths);
});

message!(pb::FileActionMkFile, |file, sink| {
    sink.string(Field(1, "path"), &file.path);
    sink.int32(Field(2, "mode"), file.mode);
    sink.bytes(Field(3, "data"), &file.data);
    sink.message(Field(4, "owner"), file.owner.as_ref());
    sink.int64(Field(5, "timestamp"), file.timestamp);
});

message!(pb::FileActionSymlink, |link, sink| {
    sink.string(Field(1, "oldpath"), &link.oldpath);
    sink.string(Field(2, "newpath"), &link.newpath);
    sink.message(Field(3, "owner"), link.owner.as_ref());
    sink.int64(Field(4, "timestamp"), link.timestamp);
});

message!(pb::FileActionMkDir, |dir, sink| {
    sink.string(Field(1, "path"), &dir.path);
    sink.int32(Field(2, "mode"), dir.mode);
    sink.boolean(Field(3, "makeParents"), dir.make_parents);
    sink.message(Field(4, "owner"), dir.owner.as_ref());
    sink.int64(Field(5, "timestamp"), dir.timestamp);
});

message!(pb::FileActionRm, |rm, sink| {
    sink.string(Field(1, "path"), &rm.path);
    sink.boolean(Field(2, "allowNotFound"), rm.allow_not_found);
    sink.boolean(Field(3, "allowWildcard"), rm.allow_wildcard);
});

message!(pb::ChownOpt, |owner, sink| {
    sink.message(Field(1, "user"), owner.user.as_ref());
    sink.message(Field(2, "group"), owner.group.as_ref());
});

message!(pb::UserOpt, |user, sink| {
    match &user.user {
        None => {}
        Some(pb::user_opt::User::ByName(name)) => sink.message(Field(1, "byName"), Some(name)),
        Some(pb::user_opt::User::ById(id)) => sink.chosen_uint32(Field(2, "byID"), *id),
    }
});

message!(pb::NamedUserOpt, |name, sink| {
    sink.string(Field(1, "name"), &name.name);
    sink.int64(Field(2, "input"), name.input);
});

message!(pb::MergeInput, |input, sink| {
    sink.int64(Field(1, "input"), input.input);
});

message!(pb::MergeOp, |merge, sink| {
    sink.messages(Field(1, "inputs"), &merge.inputs);
});

message!(pb::LowerDiffInput, |input, sink| {
    sink.int64(Field(1, "input"), input.input);
});

message!(pb::UpperDiffInput, |input, sink| {
    sink.int64(Field(1, "input"), input.input);
});

message!(pb::DiffOp, |diff, sink| {
    sink.message(Field(1, "lower"), diff.lower.as_ref());
    sink.message(Field(2, "upper"), diff.upper.as_ref());
});

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[test]
    fn the_op_itself_comes_behind_platform_and_constraints() {
        let op = pb::Op {
            platform: Some(pb::Platform { os: "linux".into(), ..Default::default() }),
            constraints: Some(pb::WorkerConstraints::default()),
            op: Some(pb::op::Op::Source(pb::SourceOp {
                identifier: "a".into(),
                attrs: BTreeMap::new(),
            })),
            ..Default::default()
        };
        let bytes = encode(&op);
        assert_eq!(bytes, b"\x52\x07\x12\x05linux\x5a\x00\x1a\x03\x0a\x01a");
        assert_eq!(pb::Op::decode(bytes.as_slice()), Ok(op));
    }

    #[test]
    fn map_entries_keep_empty_keys_and_values() {
        let source = pb::SourceOp {
            identifier: String::new(),
            attrs: BTreeMap::from([("b".into(), String::new()), (String::new(), "x".into())]),
        };
        let expected =
            [&[0x12, 5, 0x0a, 0, 0x12, 1, b'x'][..], &[0x12, 5, 0x0a, 1, b'b', 0x12, 0][..]]
                .concat();
        assert_eq!(encode(&source), expected);
    }

    #[test]
    fn unset_indexes_take_ten_bytes_and_a_chosen_zero_is_written() {
        let action = pb::FileAction { input: -1, ..Default::default() };
        assert_eq!(encode(&action).len(), 11);
        let root = pb::UserOpt { user: Some(pb::user_opt::User::ById(0)) };
        assert_eq!(encode(&root), [0x10, 0]);
        assert_eq!(to_json(&root), serde_json::json!({"byID": 0}));
    }

    #[test]
    fn json_has_wide_numbers_as_text_and_enumerations_by_name() {
        let mount = pb::Mount {
            output: -1,
            mount_type: pb::MountType::Cache.into(),
            cache_opt: Some(pb::CacheOpt { id: "c".into(), sharing: 2 }),
            ..Default::default()
        };
        assert_eq!(
            to_json(&mount),
            serde_json::json!({
                "output": "-1", "mountType": "CACHE", "cacheOpt": {"ID": "c", "sharing": "LOCKED"}
            })
        );
    }
}
