//! The bridge over which a frontend drives a build: every call is made under the build's id, over
//! the same connection as everything else.

use super::{capabilities::Capabilities, control::MESSAGE_LIMIT, errors::Failure};
use crate::llb::ResolveMode;
use crate::proto::{
    fsutil::types::Stat,
    google::rpc,
    moby::buildkit::v1::frontend::{
        CacheOptionsEntry, EvaluateRequest, FileRange, PingRequest, ReadDirRequest,
        ReadFileRequest, ResolveImageConfigRequest, ResolveSourceGitRequest,
        ResolveSourceImageRequest, ResolveSourceMetaRequest, Result as BuildResult, ReturnRequest,
        SolveRequest, StatFileRequest, WarnRequest, llb_bridge_client::LlbBridgeClient,
    },
    pb,
};
use std::{collections::BTreeMap, time::Duration};
use tonic::{
    Code, Request,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

/// Names the build that a call belongs to.
const BUILD_ID_HEADER: &str = "buildkit-controlapi-buildid";

/// How long a builder may take for its first answer.
const PING_LIMIT: Duration = Duration::from_secs(15);

/// The bridge of one build.
#[derive(Clone, Debug)]
pub struct Gateway {
    client: LlbBridgeClient<Channel>,
    build_id: MetadataValue<Ascii>,
    capabilities: Capabilities,
}

/// What a source stands for, as far as it has such things.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResolvedSource {
    /// The identifier to use in the graph, which a source policy may have changed.
    pub identifier: String,
    /// Of an image: its digest and its config.
    pub image: Option<(String, Vec<u8>)>,
    /// Of a git source: the commit, as git stores it.
    pub commit: Vec<u8>,
    /// Of a file of the web: when it last changed, in seconds since 1970.
    pub last_modified: Option<i64>,
}

/// What an image reference stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResolvedImage {
    /// The identifier to use in the graph, which a source policy may have changed.
    pub identifier: String,
    /// The digest of the manifest or index; empty where a policy made it something else.
    pub digest: String,
    /// The image config for the platform asked for.
    pub config: Vec<u8>,
}

/// What a definition or a frontend is solved with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Solve {
    /// The graph; none where a frontend makes it.
    pub definition: Option<pb::Definition>,
    /// The builder's frontend that makes the graph; empty where `definition` is given.
    pub frontend: String,
    /// The frontend's attributes.
    pub attributes: BTreeMap<String, String>,
    /// Graphs that the frontend is given, by name.
    pub inputs: BTreeMap<String, pb::Definition>,
    /// Where cached results may come from: kind and attributes.
    pub cache_imports: Vec<(String, BTreeMap<String, String>)>,
    /// Whether the result is computed now and not when it is first needed.
    pub evaluate: bool,
}

impl Gateway {
    /// The bridge of the build `build_id`, once the builder answers on it.
    ///
    /// # Errors
    /// The builder knows no such build (it waits some seconds for one), or does not answer.
    pub async fn open(channel: Channel, build_id: &str) -> Result<Self, Failure> {
        let build_id = MetadataValue::try_from(build_id).map_err(|_| {
            Failure::new(Code::InvalidArgument, format!("`{build_id}` cannot name a build"))
        })?;
        let client = LlbBridgeClient::new(channel)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        let mut gateway = Self { client, build_id, capabilities: Capabilities::default() };
        let ping = gateway.client.clone();
        let request = gateway.request(PingRequest::default());
        let answer = async move {
            let mut ping = ping;
            ping.ping(request).await
        };
        let pong = tokio::time::timeout(PING_LIMIT, answer).await.map_err(|_| {
            let limit = PING_LIMIT.as_secs();
            Failure::new(
                Code::DeadlineExceeded,
                format!("the builder did not answer within {limit} s"),
            )
        })??;
        gateway.capabilities = Capabilities::new(pong.into_inner());
        Ok(gateway)
    }

    /// What the builder can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Solves a graph, or lets a frontend of the builder make one. Unless `evaluate` is set,
    /// nothing runs until a file is read from the result or it is returned.
    ///
    /// # Errors
    /// The builder lacks something that the graph needs, or refused it.
    pub async fn solve(&self, solve: Solve) -> Result<BuildResult, Failure> {
        let mut solve = solve;
        if let Some(definition) = &mut solve.definition {
            self.check_capabilities(definition)?;
            leave_out_empty_places(definition);
        }
        solve.inputs.values_mut().for_each(leave_out_empty_places);
        let evaluate_inline = self.capabilities.has_frontend("gateway.solve.evaluate");
        let request = SolveRequest {
            definition: solve.definition,
            frontend: solve.frontend,
            frontend_opt: solve.attributes,
            frontend_inputs: solve.inputs,
            allow_result_return: true,
            allow_result_array_ref: true,
            cache_imports: solve
                .cache_imports
                .into_iter()
                .map(|(kind, attrs)| CacheOptionsEntry { r#type: kind, attrs })
                .collect(),
            evaluate: solve.evaluate && evaluate_inline,
            ..SolveRequest::default()
        };
        let answer = self.client.clone().solve(self.request(request)).await?.into_inner();
        let result = answer.result.unwrap_or_default();
        if solve.evaluate && !evaluate_inline {
            for reference in references(&result) {
                self.evaluate(&reference).await?;
            }
        }
        Ok(result)
    }

    /// A file of a result, or a part of it: `range` is an offset and a length.
    ///
    /// # Errors
    /// There is no such file, or what it comes from failed.
    pub async fn read_file(
        &self,
        reference: &str,
        path: &str,
        range: Option<(i64, i64)>,
    ) -> Result<Vec<u8>, Failure> {
        let request = ReadFileRequest {
            r#ref: reference.to_owned(),
            file_path: path.to_owned(),
            range: range.map(|(offset, length)| FileRange { offset, length }),
        };
        Ok(self.client.clone().read_file(self.request(request)).await?.into_inner().data)
    }

    /// What a path of a result is.
    ///
    /// # Errors
    /// There is no such path, or what it comes from failed.
    pub async fn stat_file(&self, reference: &str, path: &str) -> Result<Stat, Failure> {
        let request = StatFileRequest { r#ref: reference.to_owned(), path: path.to_owned() };
        let answer = self.client.clone().stat_file(self.request(request)).await?.into_inner();
        Ok(answer.stat.unwrap_or_default())
    }

    /// The entries of a directory of a result, those whose names match `pattern` where it is not
    /// empty.
    ///
    /// # Errors
    /// There is no such directory, or what it comes from failed.
    pub async fn read_dir(
        &self,
        reference: &str,
        path: &str,
        pattern: &str,
    ) -> Result<Vec<Stat>, Failure> {
        let request = ReadDirRequest {
            r#ref: reference.to_owned(),
            dir_path: path.to_owned(),
            include_pattern: pattern.to_owned(),
        };
        Ok(self.client.clone().read_dir(self.request(request)).await?.into_inner().entries)
    }

    /// Computes a result now.
    ///
    /// # Errors
    /// A step of it failed.
    pub async fn evaluate(&self, reference: &str) -> Result<(), Failure> {
        if self.capabilities.has_frontend("gateway.evaluate") {
            let request = EvaluateRequest { r#ref: reference.to_owned() };
            self.client.clone().evaluate(self.request(request)).await?;
        } else {
            self.stat_file(reference, ".").await?;
        }
        Ok(())
    }

    /// What the image `name` (normalised, such as `docker.io/library/alpine:3`) is for `platform`,
    /// or for the builder's own. `log_name` is what progress shows.
    ///
    /// # Errors
    /// No registry has it, or not for that platform, or the call failed.
    pub async fn resolve_image(
        &self,
        name: &str,
        platform: Option<pb::Platform>,
        mode: ResolveMode,
        log_name: &str,
    ) -> Result<ResolvedImage, Failure> {
        if !self.capabilities.has_frontend("source.metaresolver") {
            return self.resolve_image_config(name, platform, mode, log_name).await;
        }
        let identifier = format!("docker-image://{name}");
        let source = pb::SourceOp { identifier, ..pb::SourceOp::default() };
        let resolved = self.resolve_source(source, platform, mode, log_name).await?;
        let (digest, config) = resolved.image.unwrap_or_default();
        Ok(ResolvedImage { identifier: resolved.identifier, digest, config })
    }

    /// What `source` is: an image, a file of the web or a git repository. `platform` and `mode`
    /// mean something for images only.
    ///
    /// # Errors
    /// There is no such thing, or the builder cannot look it up, or the call failed.
    pub async fn resolve_source(
        &self,
        source: pb::SourceOp,
        platform: Option<pb::Platform>,
        mode: ResolveMode,
        log_name: &str,
    ) -> Result<ResolvedSource, Failure> {
        let identifier = source.identifier.clone();
        let is_git = identifier.starts_with("git://");
        let is_image = !is_git && !identifier.starts_with("http");
        let request = ResolveSourceMetaRequest {
            source: Some(source),
            platform,
            log_name: log_name.to_owned(),
            // Upstream's own client leaves this out, and then `--pull` would be lost here.
            resolve_mode: if is_image { mode.as_str().to_owned() } else { String::new() },
            image: is_image.then(ResolveSourceImageRequest::default),
            git: is_git.then_some(ResolveSourceGitRequest { return_object: true }),
            ..ResolveSourceMetaRequest::default()
        };
        let mut client = self.client.clone();
        let answer = client.resolve_source_meta(self.request(request)).await?.into_inner();
        Ok(ResolvedSource {
            identifier: answer.source.map_or(identifier, |source| source.identifier),
            image: answer.image.map(|image| (image.digest, image.config)),
            commit: answer.git.map(|git| git.commit_object).unwrap_or_default(),
            last_modified: answer.http.and_then(|http| http.last_modified).map(|time| time.seconds),
        })
    }

    async fn resolve_image_config(
        &self,
        name: &str,
        platform: Option<pb::Platform>,
        mode: ResolveMode,
        log_name: &str,
    ) -> Result<ResolvedImage, Failure> {
        let request = ResolveImageConfigRequest {
            r#ref: name.to_owned(),
            platform,
            resolve_mode: mode.as_str().to_owned(),
            log_name: log_name.to_owned(),
            ..ResolveImageConfigRequest::default()
        };
        let mut client = self.client.clone();
        let answer = client.resolve_image_config(self.request(request)).await?.into_inner();
        let name = if answer.r#ref.is_empty() { name.to_owned() } else { answer.r#ref };
        Ok(ResolvedImage {
            identifier: format!("docker-image://{name}"),
            digest: answer.digest,
            config: answer.config,
        })
    }

    /// Attaches a warning to a vertex, where the builder can take one.
    ///
    /// # Errors
    /// The call failed.
    pub async fn warn(&self, warning: WarnRequest) -> Result<(), Failure> {
        let mut warning = warning;
        let source = warning.info.as_mut().and_then(|info| info.definition.as_mut());
        if let Some(definition) = source {
            leave_out_empty_places(definition);
        }
        if self.capabilities.has_frontend("gateway.warnings") {
            self.client.clone().warn(self.request(warning)).await?;
        }
        Ok(())
    }

    /// Ends the frontend's part with `result`; the builder computes and exports it then.
    ///
    /// # Errors
    /// A result was returned before, or the call failed.
    pub async fn return_result(&self, result: BuildResult) -> Result<(), Failure> {
        let result = with_empty_ones_named(result);
        let request = ReturnRequest { result: Some(result), error: None };
        self.client.clone().r#return(self.request(request)).await?;
        Ok(())
    }

    /// Ends the frontend's part with a failure, which the builder's `Solve` then answers with.
    ///
    /// # Errors
    /// A result was returned before, or the call failed.
    pub async fn return_failure(&self, code: Code, message: &str) -> Result<(), Failure> {
        let error = rpc::Status { code: code.into(), message: message.to_owned(), details: vec![] };
        let request = ReturnRequest { result: None, error: Some(error) };
        self.client.clone().r#return(self.request(request)).await?;
        Ok(())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(BUILD_ID_HEADER, self.build_id.clone());
        request
    }

    fn check_capabilities(&self, definition: &pb::Definition) -> Result<(), Failure> {
        let needed = definition.metadata.values().flat_map(|metadata| metadata.caps.iter());
        for (id, _) in needed.filter(|(_, needed)| **needed) {
            if !self.capabilities.has_llb(id) {
                return Err(Failure::new(
                    Code::Unimplemented,
                    format!("the builder lacks `{id}`, which this build needs"),
                ));
            }
        }
        Ok(())
    }
}

/// Leaves out the places of ops that have none. In a map of the wire, our encoder leaves out a value
/// that is empty, where Go's writes it; a builder takes what is left out for a null pointer, and ends
/// with all of its builds when such an op fails.
fn leave_out_empty_places(definition: &mut pb::Definition) {
    let Some(source) = &mut definition.source else { return };
    source.locations.retain(|_, places| !places.locations.is_empty());
    let inner = source.infos.iter_mut().filter_map(|info| info.definition.as_mut());
    inner.for_each(leave_out_empty_places);
}

/// The ids of the results in `result`, less those that are empty (a scratch image).
pub fn references(result: &BuildResult) -> Vec<String> {
    use crate::proto::moby::buildkit::v1::frontend::result::Result as Kind;
    let ids: Vec<String> = match &result.result {
        None => Vec::new(),
        Some(Kind::RefDeprecated(id)) => vec![id.clone()],
        Some(Kind::RefsDeprecated(map)) => map.refs.values().cloned().collect(),
        Some(Kind::Ref(reference)) => vec![reference.id.clone()],
        Some(Kind::Refs(map)) => map.refs.values().map(|reference| reference.id.clone()).collect(),
    };
    ids.into_iter().filter(|id| !id.is_empty()).collect()
}

/// The result in a form in which an empty one among several is there. In the usual form it is a message
/// without content as the value of a map, which is left out on the wire, and a builder that finds no
/// value there goes down.
fn with_empty_ones_named(mut result: BuildResult) -> BuildResult {
    use crate::proto::moby::buildkit::v1::frontend::{RefMapDeprecated, result::Result as Kind};
    if let Some(Kind::Refs(map)) = &result.result
        && map.refs.values().any(|reference| reference.id.is_empty())
    {
        let ids = map.refs.iter().map(|(id, reference)| (id.clone(), reference.id.clone()));
        let refs = ids.collect();
        result.result = Some(Kind::RefsDeprecated(RefMapDeprecated { refs }));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_op_without_a_place_is_not_spoken_of() {
        let some = pb::Locations { locations: vec![pb::Location::default()] };
        let places = BTreeMap::from([
            ("sha256:a".to_owned(), some),
            ("sha256:b".to_owned(), pb::Locations::default()),
        ]);
        let source = |locations, infos| Some(pb::Source { locations, infos });
        let inner = pb::Definition {
            source: source(places.clone(), Vec::new()),
            ..pb::Definition::default()
        };
        let info = pb::SourceInfo { definition: Some(inner), ..pb::SourceInfo::default() };
        let mut definition =
            pb::Definition { source: source(places, vec![info]), ..pb::Definition::default() };
        leave_out_empty_places(&mut definition);
        let outer = definition.source.unwrap();
        let keys = |source: &pb::Source| source.locations.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&outer), ["sha256:a"]);
        let inner = outer.infos[0].definition.as_ref().unwrap().source.as_ref().unwrap();
        assert_eq!(keys(inner), ["sha256:a"]);
    }
}
