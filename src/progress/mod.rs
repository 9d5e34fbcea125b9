//! Events to a pure state, and the state to a screen, lines or JSON.
