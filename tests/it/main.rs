//! Integration tests: one binary, one module a subject. Tests that need root say so by their tag.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod admission;
mod agent;
mod attach;
mod check;
mod clusters;
mod command;
mod conntrack;
mod datapath_changes;
mod datapath_interfaces;
mod datapath_program;
mod datapath_random;
mod examples;
mod flows;
mod fuzz;
mod goldens;
mod kube;
mod kube_access;
mod kube_agent;
mod kube_controller;
mod kube_neighbours;
mod large;
mod layers;
mod newborns;
mod node;
mod numbers;
mod packets;
mod root;
mod rules;
mod sandbox;
mod semantics;
mod server_texts;
mod spoofing;
mod thousand;
mod tls;
mod yaml;
