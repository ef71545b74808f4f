//! Any bytes as a file of manifests: findings, never a panic, in every form in which they are shown.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ringfence::check::trial::file(bytes));
