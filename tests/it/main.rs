//! The one integration binary.
mod check;
mod examples;
mod server_texts;
mod yaml;
