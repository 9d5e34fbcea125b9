//! Defaults, `bk-sync.toml`, environment and flags to settings; each value knows where it came from.
