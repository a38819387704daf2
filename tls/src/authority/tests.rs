//! Tests of the authority.
