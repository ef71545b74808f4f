//! Tests that need root: for BPF programs and network namespaces.
//!
//! A user's `cargo test` reports them as not run. With RINGFENCE_REQUIRE_ROOT=1 it is a failure not to be root.

use std::io::Write;

/// Whether the test can run. If not, says so.
pub(crate) fn is_root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var_os("RINGFENCE_REQUIRE_ROOT").is_none_or(|value| value != "1"),
        "needs root, and RINGFENCE_REQUIRE_ROOT=1 forbids to go without"
    );
    // Not by a macro of the standard library: the harness would keep it to itself.
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "{test}: needs root: not run");
    false
}

/// Ends a test that needs root and has not got it.
macro_rules! root_or_return {
    () => {
        if !crate::root::is_root() {
            return;
        }
    };
}
pub(crate) use root_or_return;
