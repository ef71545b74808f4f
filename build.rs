//! Compiles the C program for the kernel.
fn main() {}
