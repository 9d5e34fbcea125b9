//! Marshalling: from a state to the bytes that a builder takes.

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::caps::{self, Caps};
use super::error::Error;
use super::merge::{DIFF_CAPS, MERGE_CAPS};
use super::metadata;
use super::platform::Platform;
use super::source_map::{Range, SourceMap};
use super::state::State;
use super::vertex::{Kind, Output, Vertex};
use super::wire;
use crate::proto::pb;

/// What holds for ops that say nothing else.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The platform.
    pub platform: Platform,
    /// What the builder can do; without it, it is trusted to do everything.
    pub caps: Option<Caps>,
    /// What tells local sources without a session from those of other builds.
    pub unique: String,
}

impl Defaults {
    /// A platform, and what the builder can do.
    pub fn new(platform: Platform, caps: Option<Caps>) -> Self {
        Self { platform, caps, unique: String::new() }
    }
}

/// One marshalled op.
#[derive(Clone, Debug)]
pub struct MarshalledOp {
    /// `sha256:…` of the bytes.
    pub digest: String,
    /// The canonical bytes.
    pub bytes: Vec<u8>,
}

/// Which piece of which source file an op stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpLocation {
    /// Index into [`Definition::sources`].
    pub source: usize,
    /// The pieces.
    pub ranges: Vec<Range>,
}

/// A marshalled graph: ops in an order in which each comes after what it is built on, and last the
/// terminal op, which names the result.
#[derive(Clone, Debug, Default)]
pub struct Definition {
    ops: Vec<MarshalledOp>,
    metadata: BTreeMap<String, pb::OpMetadata>,
    locations: BTreeMap<String, Vec<OpLocation>>,
    sources: Vec<Arc<SourceMap>>,
    head: Option<pb::Input>,
}

impl Definition {
    /// The ops, the terminal one last; none where the result is empty.
    pub fn ops(&self) -> &[MarshalledOp] {
        &self.ops
    }

    /// Names, capabilities and caching of an op.
    pub fn metadata(&self, digest: &str) -> Option<&pb::OpMetadata> {
        self.metadata.get(digest)
    }

    /// The places an op stands for.
    pub fn locations(&self, digest: &str) -> &[OpLocation] {
        self.locations.get(digest).map_or(&[], Vec::as_slice)
    }

    /// The files that locations point into.
    pub fn sources(&self) -> &[Arc<SourceMap>] {
        &self.sources
    }

    /// The digest of the op whose result is the result of the graph.
    pub fn head(&self) -> Option<&str> {
        self.head.as_ref().map(|input| input.digest.as_str())
    }

    /// The op and its result that are the result of the graph.
    pub(super) fn head_input(&self) -> Option<&pb::Input> {
        self.head.as_ref()
    }

    /// The first op that needs a capability which the builder lacks, and that capability.
    pub fn unsupported(&self, caps: &Caps) -> Option<(&MarshalledOp, &str)> {
        self.ops.iter().find_map(|op| {
            let needed = self.metadata.get(&op.digest)?;
            let missing = needed.caps.keys().find(|id| !caps.supports(id))?;
            Some((op, missing.as_str()))
        })
    }

    /// The message of the wire.
    pub fn to_pb(&self) -> pb::Definition {
        let locations = self.locations.iter().map(|(digest, locations)| {
            let locations = locations
                .iter()
                .map(|location| pb::Location {
                    source_index: i32::try_from(location.source).unwrap_or(i32::MAX),
                    ranges: location.ranges.iter().map(|range| range.to_pb()).collect(),
                })
                .collect();
            (digest.clone(), pb::Locations { locations })
        });
        pb::Definition {
            def: self.ops.iter().map(|op| op.bytes.clone()).collect(),
            metadata: self.metadata.clone(),
            source: Some(pb::Source {
                locations: locations.collect(),
                infos: self.sources.iter().map(|map| map.to_pb()).collect(),
            }),
        }
    }

    /// A graph that somebody else marshalled. Of the files that its places point into, the graphs
    /// that they were read from are left aside.
    ///
    /// # Errors
    /// The last op cannot be read, or names no result.
    pub fn from_pb(definition: pb::Definition) -> Result<Self, Error> {
        let head = match definition.def.last() {
            None => None,
            Some(last) => {
                let last = pb::Op::decode(last.as_slice()).ok();
                Some(last.and_then(|op| op.inputs.into_iter().next()).ok_or(Error::NoResult)?)
            }
        };
        let source = definition.source.unwrap_or_default();
        let sources = source.infos.into_iter().map(|info| Arc::new(SourceMap::from_pb(info)));
        let locations = source.locations.into_iter().map(|(digest, locations)| {
            let locations = locations.locations.into_iter().map(|location| OpLocation {
                source: usize::try_from(location.source_index).unwrap_or_default(),
                ranges: location.ranges.into_iter().map(Range::from_pb).collect(),
            });
            (digest, locations.collect())
        });
        let ops = definition.def.into_iter();
        Ok(Self {
            ops: ops.map(|bytes| MarshalledOp { digest: digest(&bytes), bytes }).collect(),
            metadata: definition.metadata,
            locations: locations.collect(),
            sources: sources.collect(),
            head,
        })
    }

    /// The canonical bytes of the whole.
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::encode(&self.to_pb())
    }
}

/// `sha256:…` of some bytes.
fn digest(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    for byte in Sha256::digest(bytes) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A name for ops that are shown together, made of what tells them from others.
pub(crate) fn group_id(parts: &[&str]) -> String {
    let text = digest(parts.join("\0").as_bytes());
    text.chars().skip("sha256:".len()).take(25).collect()
}

impl State {
    /// Marshals the state and everything it is built on.
    ///
    /// The same state gives the same bytes, always; time and memory grow with the number of ops,
    /// and no depth of the graph is too deep.
    ///
    /// # Errors
    /// [`Error`] where an op is not complete.
    pub fn marshal(&self, defaults: &Defaults) -> Result<Definition, Error> {
        let mut marshaller = Marshaller {
            defaults,
            digests: HashMap::new(),
            written: HashSet::new(),
            definition: Definition::default(),
        };
        let Some(output) = self.output() else { return Ok(marshaller.definition) };
        marshaller.walk(output.settled()?)?;
        let head = marshaller.input(output)?;
        marshaller.finish(head);
        Ok(marshaller.definition)
    }
}

struct Marshaller<'a> {
    defaults: &'a Defaults,
    digests: HashMap<*const Vertex, String>,
    written: HashSet<String>,
    definition: Definition,
}

/// A vertex on the way down, and which of its inputs is next.
struct Step<'v> {
    vertex: &'v Arc<Vertex>,
    inputs: Vec<&'v Output>,
    next: usize,
}

impl Marshaller<'_> {
    /// Marshals depth first, inputs before what is built on them, with a stack of its own.
    fn walk(&mut self, output: &Output) -> Result<(), Error> {
        let mut open: HashSet<*const Vertex> = HashSet::from([output.id()]);
        let mut stack =
            vec![Step { vertex: &output.vertex, inputs: output.vertex.inputs(), next: 0 }];
        while let Some(step) = stack.last_mut() {
            if let Some(input) = step.inputs.get(step.next) {
                step.next += 1;
                let input = input.settled()?;
                if self.digests.contains_key(&input.id()) {
                    continue;
                }
                if !open.insert(input.id()) {
                    return Err(Error::Cycle);
                }
                let inputs = input.vertex.inputs();
                stack.push(Step { vertex: &input.vertex, inputs, next: 0 });
            } else {
                let vertex = step.vertex;
                stack.pop();
                open.remove(&Arc::as_ptr(vertex));
                self.write(vertex)?;
            }
        }
        Ok(())
    }

    fn input(&self, output: &Output) -> Result<pb::Input, Error> {
        let output = output.settled()?;
        let digest = self.digests.get(&output.id()).ok_or(Error::Cycle)?;
        Ok(pb::Input { digest: digest.clone(), index: output.index })
    }

    fn write(&mut self, vertex: &Arc<Vertex>) -> Result<(), Error> {
        let constraints = &vertex.constraints;
        let own_platform = constraints.platform.as_ref();
        let default_platform = &self.defaults.platform;
        let (op, inputs, platform, caps) = match &vertex.kind {
            Kind::Later(_) => return Err(Error::Undecided),
            Kind::Built(built) => {
                self.take_over(vertex, built);
                return Ok(());
            }
            Kind::Source(source) => {
                if source.identifier.is_empty() {
                    return Err(Error::NoIdentifier);
                }
                let mut message = pb::SourceOp {
                    identifier: source.identifier.clone(),
                    attrs: source.attrs.clone(),
                };
                let mut caps = source.caps.clone();
                let local = source.identifier.starts_with("local://");
                if local && !source.attrs.contains_key("local.session") {
                    message.attrs.insert("local.unique".into(), self.defaults.unique.clone());
                    caps.insert(caps::LOCAL_UNIQUE);
                }
                let platform =
                    source.is_for_a_platform().then(|| own_platform.unwrap_or(default_platform));
                (pb::op::Op::Source(message), Vec::new(), platform, caps)
            }
            Kind::Exec(exec) => {
                let (message, inputs, caps) =
                    exec.to_pb(constraints, self.defaults, |output| self.input(output))?;
                let platform = own_platform.or(exec.platform()).unwrap_or(default_platform);
                (pb::op::Op::Exec(message), inputs, Some(platform), caps)
            }
            Kind::File(file) => {
                let (message, inputs) = file.to_pb(|output| self.input(output))?;
                (pb::op::Op::File(message), inputs, None, BTreeSet::from([caps::FILE_BASE]))
            }
            Kind::Merge(merge) => {
                let inputs =
                    merge.inputs.iter().map(|output| self.input(output)).collect::<Result<_, _>>();
                let message = pb::MergeOp {
                    inputs: (0..)
                        .take(merge.inputs.len())
                        .map(|input| pb::MergeInput { input })
                        .collect(),
                };
                (pb::op::Op::Merge(message), inputs?, None, BTreeSet::from(MERGE_CAPS))
            }
            Kind::Diff(diff) => {
                let mut inputs = Vec::new();
                let mut index = |output: &Option<Output>| -> Result<i64, Error> {
                    let Some(output) = output else { return Ok(super::exec::NONE) };
                    inputs.push(self.input(output)?);
                    Ok(i64::try_from(inputs.len()).unwrap_or(i64::MAX) - 1)
                };
                let message = pb::DiffOp {
                    lower: Some(pb::LowerDiffInput { input: index(&diff.lower)? }),
                    upper: Some(pb::UpperDiffInput { input: index(&diff.upper)? }),
                };
                (pb::op::Op::Diff(message), inputs, None, BTreeSet::from(DIFF_CAPS))
            }
        };
        let op = pb::Op {
            inputs,
            platform: platform.map(Platform::to_pb),
            constraints: Some(constraints.filters()),
            op: Some(op),
        };
        self.add(vertex, &op, constraints.metadata(&caps));
        Ok(())
    }

    fn add(&mut self, vertex: &Arc<Vertex>, op: &pb::Op, meta: pb::OpMetadata) {
        let bytes = wire::encode(op);
        let digest = digest(&bytes);
        self.digests.insert(Arc::as_ptr(vertex), digest.clone());
        metadata::merge(self.definition.metadata.entry(digest.clone()).or_default(), meta);
        let locations: Vec<OpLocation> = vertex
            .constraints
            .locations
            .iter()
            .map(|location| OpLocation {
                source: self.source_index(&location.map),
                ranges: location.ranges.clone(),
            })
            .collect();
        self.definition.locations.entry(digest.clone()).or_default().extend(locations);
        if self.written.insert(digest.clone()) {
            self.definition.ops.push(MarshalledOp { digest, bytes });
        }
    }

    /// Takes over a graph that was marshalled before, less the op that names its result.
    fn take_over(&mut self, vertex: &Arc<Vertex>, built: &Definition) {
        let Some(head) = built.head() else { return };
        self.digests.insert(Arc::as_ptr(vertex), head.to_owned());
        let Some((_, ops)) = built.ops.split_last() else { return };
        for op in ops {
            if let Some(meta) = built.metadata.get(&op.digest) {
                let known = self.definition.metadata.entry(op.digest.clone()).or_default();
                metadata::merge(known, meta.clone());
            }
            if !self.written.insert(op.digest.clone()) {
                continue;
            }
            let locations: Vec<OpLocation> = built
                .locations(&op.digest)
                .iter()
                .filter_map(|location| {
                    let map = built.sources.get(location.source)?;
                    let (source, ranges) = (self.source_index(map), location.ranges.clone());
                    Some(OpLocation { source, ranges })
                })
                .collect();
            self.definition.locations.entry(op.digest.clone()).or_default().extend(locations);
            self.definition.ops.push(op.clone());
        }
    }

    fn source_index(&mut self, map: &Arc<SourceMap>) -> usize {
        let sources = &mut self.definition.sources;
        let same = |known: &Arc<SourceMap>| Arc::ptr_eq(known, map) || known.same_file(map);
        sources.iter().position(same).unwrap_or_else(|| {
            sources.push(Arc::clone(map));
            sources.len() - 1
        })
    }

    fn finish(&mut self, head: pb::Input) {
        let terminal = pb::Op { inputs: vec![head.clone()], ..pb::Op::default() };
        let bytes = wire::encode(&terminal);
        let digest = digest(&bytes);
        let mut caps = BTreeMap::from([
            (caps::CONSTRAINTS.to_owned(), true),
            (caps::PLATFORM.to_owned(), true),
        ]);
        for metadata in self.definition.metadata.values() {
            if metadata.ignore_cache {
                caps.insert(caps::META_IGNORE_CACHE.to_owned(), true);
            }
            if !metadata.description.is_empty() {
                caps.insert(caps::META_DESCRIPTION.to_owned(), true);
            }
            if metadata.export_cache.is_some() {
                caps.insert(caps::META_EXPORT_CACHE.to_owned(), true);
            }
        }
        let metadata = pb::OpMetadata { caps, ..pb::OpMetadata::default() };
        self.definition.metadata.insert(digest.clone(), metadata);
        self.definition.ops.push(MarshalledOp { digest, bytes });
        self.definition.head = Some(head);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Constraints, Exec, FileAction, Image, Local, Mount};
    use super::*;

    fn defaults() -> Defaults {
        Defaults::new(Platform::new("linux", "arm64"), Some(Caps::all()))
    }

    fn digests(state: &State) -> Vec<String> {
        let definition = state.marshal(&defaults()).unwrap();
        definition.ops().iter().map(|op| op.digest.clone()).collect()
    }

    #[test]
    fn a_graph_that_was_marshalled_before_keeps_its_digests_and_is_there_once() {
        let base = Image::new("docker.io/library/a:1")
            .state(Constraints::new())
            .run(Exec::new(["make"]), Constraints::named("make"));
        let built = base.marshal(&defaults()).unwrap();
        let on = |state: &State| state.clone().run(Exec::new(["test"]), Constraints::named("test"));
        let directly = on(&base).marshal(&defaults()).unwrap();
        let taken = State::from_definition(built);
        assert_eq!(on(&taken).marshal(&defaults()).unwrap().to_pb(), directly.to_pb());
        let twice = State::merge(vec![taken.clone(), on(&taken)], Constraints::new());
        let twice = twice.marshal(&defaults()).unwrap();
        assert_eq!(twice.ops().len(), directly.ops().len() + 1, "and the merge");
        let empty = State::from_definition(Definition::default());
        assert!(empty.marshal(&defaults()).unwrap().ops().is_empty());
    }

    /// The digests are those that BuildKit's own frontend gives this source.
    #[test]
    fn a_local_source_has_the_digest_that_a_builder_computes() {
        let state = Local::new("context")
            .session("conformance")
            .follow(vec![".dockerignore".into()])
            .shared_key("context-.dockerignore")
            .always_send()
            .state(Constraints::named("[internal] load .dockerignore"));
        assert_eq!(
            digests(&state),
            [
                "sha256:74f85a2b5c5b66aa3c5f6a8d8cee02a7a273775a686f68b101c490a03bca9b8b",
                "sha256:a185be43f6925abdd749d090465b078b78f2dfe63e1548f8e0c0ee16539a123a",
            ]
        );
    }

    #[test]
    fn an_empty_result_has_no_ops() {
        assert!(digests(&State::scratch()).is_empty());
    }

    #[test]
    fn the_same_op_twice_is_written_once_and_keeps_both_places() {
        let map = Arc::new(SourceMap { filename: "Dockerfile".into(), ..SourceMap::default() });
        let image = |line, name: &str| {
            let constraints =
                Constraints::named(name).location(&map, vec![Range::lines(line, line)]);
            Image::new("docker.io/library/alpine:3").state(constraints)
        };
        let state = image(2, "second")
            .file(vec![FileAction::copy(&image(1, "first"), "/a", "/b")], Constraints::new());
        let definition = state.marshal(&defaults()).unwrap();
        assert_eq!(definition.ops().len(), 3);
        let shared = &definition.ops()[0].digest;
        let lines: Vec<i32> =
            definition.locations(shared).iter().map(|at| at.ranges[0].start.line).collect();
        assert_eq!(lines, [2, 1]);
        let names = &definition.metadata(shared).unwrap().description;
        assert_eq!(names["llb.customname"], "first");
    }

    #[test]
    fn a_missing_capability_names_the_op() {
        let merged = State::merge(
            vec![
                Image::new("a").state(Constraints::new()),
                Image::new("b").state(Constraints::new()),
            ],
            Constraints::new(),
        );
        let definition = merged.marshal(&defaults()).unwrap();
        let caps = Caps::all().without(caps::MERGE);
        let (op, cap) = definition.unsupported(&caps).unwrap();
        assert_eq!(cap, "mergeop");
        assert_eq!(Some(op.digest.as_str()), definition.head());
        assert!(definition.unsupported(&Caps::all()).is_none());
    }

    #[test]
    fn an_older_builder_is_told_the_path() {
        let state = Image::new("a")
            .state(Constraints::new())
            .run(Exec::new(["make"]).mount(Mount::memory("/tmp", 0)), Constraints::new());
        let caps = Caps::all().without(caps::EXEC_SETS_DEFAULT_PATH);
        let old = Defaults { caps: Some(caps), ..defaults() };
        let ops = [&old, &defaults()].map(|defaults| {
            let definition = state.marshal(defaults).unwrap();
            super::super::print::op_json(&definition.ops()[1].bytes)
        });
        assert!(ops[0]["exec"]["meta"]["env"][0].as_str().unwrap().starts_with("PATH=/usr/local"));
        assert!(ops[1]["exec"]["meta"]["env"].is_null());
    }

    #[test]
    fn a_hundred_thousand_ops_deep_is_not_too_deep() {
        let mut state = State::scratch();
        for at in 0..100_000 {
            let action = FileAction::make_file(format!("/{at}"), 0o644, "x");
            state = state.file(vec![action], Constraints::new());
        }
        assert_eq!(digests(&state).len(), 100_001);
    }

    #[test]
    fn what_was_never_decided_on_is_an_error_and_so_is_a_circle() {
        let later = Output::later();
        let state = State::from_output(later.output());
        assert_eq!(state.marshal(&defaults()).unwrap_err(), Error::Undecided);
        later.decide(Local::new("x").state(Constraints::new()).output().unwrap().clone());
        assert_eq!(digests(&state).len(), 2);
    }
}
