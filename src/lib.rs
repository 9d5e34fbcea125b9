//! bk-sync takes a git checkout to verified running pods: it compiles the Dockerfile to BuildKit's
//! LLB, solves that graph on a builder, streams to the registry what it lacks, and rolls the digest
//! out. This page is the map of the house.
//!
//! # The flow
//!
//! ```text
//! argv + env + bk-sync.toml + git
//!   └─config→ Settings ─plan→ Plan ─dockerfile→ Ast ─compile→ Graph + ImageConfig ─llb→ Definition
//!       └─buildkit (session: filesync, auth, secrets, ssh)→ Built ─registry→ Pushed
//!           └─rollout→ RolloutReport
//! ```
//!
//! Each arrow is a plain value, so each stage is tested alone. Every stage also emits
//! [`event::Event`]s; [`progress`] is their only reader and, with [`diagnostic`], the only code
//! that prints.
//!
//! # Glossary
//!
//! - **LLB**: BuildKit's low-level build graph. A graph is made of **ops**; a marshalled graph is a
//!   **definition**; an op that a builder runs is a **vertex**, named by its digest.
//! - **builder**: a BuildKit daemon, alone or inside Docker, reached by an **address**.
//! - **session**: the services that this process offers to a builder for one build (files,
//!   credentials, secrets, agents), carried inside one stream of the builder's API.
//! - **frontend**: who turns a Dockerfile into LLB.
//! - **exporter**: the builder's part that writes a result out (an image, an archive, a directory).
//! - **blob, manifest, index, digest**: as in the OCI specifications.
//! - **workload**: what runs the image: a Deployment, StatefulSet, DaemonSet, CronJob or Job; its
//!   **revision** is the ReplicaSet or ControllerRevision that carries one pod template.
//! - **diagnosis**: what stands in the way of a rollout, with a code.
//!
//! # Who may import whom
//!
//! The pure rooms (`dockerfile`, `ignorefile`, `llb`, `compile`, `filesync`, `plan`, `image`, `signature`,
//! `event` and the reducers and renderers of `progress`) know no socket, runtime, environment or
//! terminal. `engine`, `buildkit` and `registry` speak to the outside and know neither the command
//! line nor each other's policies (`buildkit` may use `engine` and `cluster`, to reach a builder
//! inside Docker or in a pod). `transport` carries bytes for them, and knows none of them. `cluster`
//! is the way to a Kubernetes API server for `rollout` and for builders in pods; `rollout` knows neither builders nor registries.
//! Only `pipeline` knows all stages, and only `cli` knows `pipeline`. `tests/it/edges.rs` holds this.

pub mod buildkit;
pub mod cli;
pub mod cluster;
pub mod compile;
pub mod config;
pub mod credential;
pub mod diagnostic;
pub mod dockerfile;
pub mod engine;
pub mod event;
pub mod filesync;
pub mod ignorefile;
pub mod image;
pub mod llb;
pub mod page;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod proto;
pub mod record;
pub mod registry;
pub mod rollout;
pub mod signature;
pub mod transport;
pub mod verify;
pub mod why;
