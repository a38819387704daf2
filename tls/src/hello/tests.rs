//! Tests of the peek.
