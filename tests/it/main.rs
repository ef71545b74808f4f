//! The one integration binary. Tests that need root say so, see `root`.
mod datapath_changes;
mod datapath_program;
mod root;
