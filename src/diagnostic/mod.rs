//! What a user reads when it fails: code, place, cause, fix; as text and as JSON; the exit codes.
