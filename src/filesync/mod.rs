//! BuildKit's file-transfer protocol as state machines: walk, filter, order. No sockets.
