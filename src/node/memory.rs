//! What this process holds of the node's memory and does not use.

/// Gives back what was freed. The allocator keeps it for later, and after the first reading of a large cluster there is no
/// later that needs so much: a third of it would stay for good.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes an integer, and touches only what nobody uses.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
