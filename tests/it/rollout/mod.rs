//! Rollouts on a real control plane: API server, controllers and scheduler as they are, and nodes
//! that report what a kubelet would. Every scenario has a namespace of its own.

mod access;
mod beside;
mod diagnoses;
mod endings;
mod locks;
mod nodes;
mod observer;
mod platforms;
mod pod_builder;
mod real;
pub mod refusals;
mod scale;
pub mod shop;
mod stages;
mod success;
mod webhooks;
