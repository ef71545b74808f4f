//! Any bytes as an AdmissionReview: a status or an answer with the uid, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ringfence::admission::trial::review(bytes));
