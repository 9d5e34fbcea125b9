//! The Docker Engine API, as far as a build needs it: protocol upgrades, exec, image push, contexts.
