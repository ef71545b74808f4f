//! What only a file shows.

use crate::finding::{Severity, rule::Rule};

pub(super) const RULES: &[Rule] = &[YAML_SYNTAX, DUPLICATE_KEY, DUPLICATE_OBJECT, NAMESPACE_MISSING];

/// What is no YAML.
pub const YAML_SYNTAX: Rule = Rule {
    id: "yaml-syntax",
    severity: Some(Severity::Error),
    title: "The document is no YAML",
    why: "kubectl cannot send what it cannot read. Nothing in that document was checked.",
    wrong: "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web}\nspec:\n\tpodSelector: {}\n",
    right: "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web}\nspec:\n  podSelector: {}\n",
};

/// A key that stands twice in one mapping.
pub const DUPLICATE_KEY: Rule = Rule {
    id: "duplicate-key",
    severity: Some(Severity::Error),
    title: "A key stands twice in one mapping",
    why: "kubectl keeps the last one and drops the other without a word (kubernetes#100213), so no server ever sees it.",
    wrong: "podSelector: {}\npolicyTypes: [Ingress]\ningress: []\ningress: [{from: [{podSelector: {}}]}]\n",
    right: "podSelector: {}\npolicyTypes: [Ingress]\ningress: [{from: [{podSelector: {}}]}]\n",
};

/// An object that stands twice.
pub const DUPLICATE_OBJECT: Rule = Rule {
    id: "duplicate-object",
    severity: Some(Severity::Warning),
    title: "Two objects of one kind, namespace and name",
    why: "Applied together, the last one replaces the others.",
    wrong: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow, namespace: shop}
spec: {podSelector: {matchLabels: {app: api}}}
",
    right: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-web, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-api, namespace: shop}
spec: {podSelector: {matchLabels: {app: api}}}
",
};

/// A policy that does not say where it belongs.
pub const NAMESPACE_MISSING: Rule = Rule {
    id: "namespace-missing",
    severity: None,
    title: "The policy names no namespace",
    why: "It lands in the namespace of whoever applies it, which is `default` more often than meant. Charts and overlays leave it \
          out on purpose, so this rule does not speak unless it is set.",
    wrong: "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web}\nspec: {podSelector: {}}\n",
    right: "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec: {podSelector: {}}\n",
};
