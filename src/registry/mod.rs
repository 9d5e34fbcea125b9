//! A client of the OCI distribution API: challenges, tokens, errors.
