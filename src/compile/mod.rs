//! Dockerfile to LLB and image config; asks a trait for base-image metadata. Pure but for that.
