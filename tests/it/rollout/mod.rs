//! Rollouts on a real control plane: API server, controllers and scheduler as they are, and nodes
//! that report what a kubelet would. Every scenario has a namespace of its own.

mod diagnoses;
mod endings;
mod locks;
mod real;
mod refusals;
mod scale;
pub mod shop;
mod success;
