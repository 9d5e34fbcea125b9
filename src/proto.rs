//! Generated code of the services and messages that we speak (`proto/`), and nothing else.
