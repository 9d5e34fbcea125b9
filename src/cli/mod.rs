//! The command line: argv to typed arguments, one file per subcommand, no decisions.
