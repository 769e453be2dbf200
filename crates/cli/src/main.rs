//! `mynah`: what a person touches.

fn main() {}
