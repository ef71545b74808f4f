//! What this process holds of the node's memory and does not use.

/// One heap for all threads, so that what one has freed the others use: the cluster is read by one and kept by another. To
/// be called before there are threads.
pub fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes two integers and sets a number of the allocator's.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
    }
}

/// Gives back what was freed. The allocator keeps it for later, and after the first reading of a large cluster there is no
/// later that needs so much: a third of it would stay for good.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes an integer, and touches only what nobody uses.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
