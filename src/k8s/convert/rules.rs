//! What an API server refuses, rule by rule.
//!
//! The findings are made where an object is read; here stands what is said about each of them.

use crate::finding::{Severity, rule::Rule};

/// A rule of the API server's own.
const fn refused(
    id: &'static str,
    title: &'static str,
    why: &'static str,
    wrong: &'static str,
    right: &'static str,
) -> Rule {
    Rule { id, severity: Some(Severity::Error), title, why, wrong, right }
}

/// Every rule for which a server refuses an object.
pub const RULES: &[Rule] = &[
    refused(
        "policy-types-mapping",
        "An item of policyTypes is a mapping",
        "`- Ingress:` with a colon is the mapping `{Ingress: null}`, and a word is wanted. The decoder of the \
         API server refuses it before any webhook is asked, with a text that names no place; `kubectl \
         --dry-run=client` lets it pass.",
        "podSelector: {}\npolicyTypes:\n- Ingress:\n",
        "podSelector: {}\npolicyTypes:\n- Ingress\n",
    ),
    refused(
        "policy-types-too-many",
        "policyTypes has more than two items",
        "There are two directions, Ingress and Egress.",
        "podSelector: {}\npolicyTypes: [Ingress, Egress, Ingress]\n",
        "podSelector: {}\npolicyTypes: [Ingress, Egress]\n",
    ),
    refused(
        "policy-types-value",
        "A policy type is neither Ingress nor Egress",
        "The words are written with a capital: `Ingress` and `Egress`.",
        "podSelector: {}\npolicyTypes: [ingress]\n",
        "podSelector: {}\npolicyTypes: [Ingress]\n",
    ),
    refused(
        "wrong-type",
        "A field holds something else than the API wants",
        "A list where a mapping is wanted, a number where a string is. YAML 1.1, which kubectl reads, makes \
         booleans of `yes`, `no`, `on`, `off`, `y` and `n`, and numbers of `1.10` and `0777`: what is meant \
         as text stands in quotes.",
        "podSelector: {matchLabels: {app: web, enabled: yes}}\npolicyTypes: [Ingress]\n",
        "podSelector: {matchLabels: {app: web, enabled: 'yes'}}\npolicyTypes: [Ingress]\n",
    ),
    refused(
        "unknown-field",
        "A field that the API does not have",
        "Misspelt, or at the wrong depth: `matchLabels` beside `podSelector` is the commonest. kubectl asks \
         for strict validation, so the server refuses it; with `--validate=false` it is dropped in silence. \
         There is no rule that denies (`action: Deny`): a NetworkPolicy only admits.",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from:
  - podSelector:
    matchLabels: {app: api}
",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from:
  - podSelector:
      matchLabels: {app: api}
",
    ),
    refused(
        "empty-peer",
        "A peer that names nobody",
        "`- {}`, and `- podSelector:` with nothing behind it, are no peer. Every pod of the namespace is \
         `podSelector: {}`; anybody is a rule without the list.",
        "podSelector: {}\npolicyTypes: [Ingress]\ningress:\n- from: [{}]\n",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
",
    ),
    refused(
        "ip-block-with-peer",
        "An ipBlock and a selector in one peer",
        "A peer is addresses or pods. Two peers, each with a dash, are one or the other.",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]
",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{ipBlock: {cidr: 10.0.0.0/8}}, {podSelector: {}}]
",
    ),
    refused(
        "cidr-missing",
        "An ipBlock without cidr",
        "`except` takes something out of `cidr`, so there has to be one.",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{ipBlock: {except: [10.1.0.0/16]}}]
",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]
",
    ),
    refused(
        "invalid-cidr",
        "Not a range of addresses",
        "A range is an address, a slash and the length of the prefix. One address is a range of length 32, or \
         128 for IPv6. Names are not resolved.",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{ipBlock: {cidr: 10.0.0.1}}]
",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{ipBlock: {cidr: 10.0.0.1/32}}]
",
    ),
    refused(
        "except-outside",
        "An except that is no smaller part of cidr",
        "Each `except` has to lie inside of `cidr` and be smaller than it.",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]
",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]
",
    ),
    refused(
        "cidr-leading-zeros",
        "A CIDR with leading zeros",
        "Some programs read `010` as eight. Kubernetes refuses it since 1.36.",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{ipBlock: {cidr: 010.0.0.0/8}}]
",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{ipBlock: {cidr: 10.0.0.0/8}}]
",
    ),
    refused(
        "cidr-host-bits",
        "A CIDR with bits set beyond its prefix",
        "`10.0.0.1/8` may mean the range `10.0.0.0/8` or the address `10.0.0.1/32`. Kubernetes refuses it \
         since 1.36; before, it took the range (`--kubernetes 1.35` makes this a warning).",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{ipBlock: {cidr: 10.0.0.1/8}}]
",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{ipBlock: {cidr: 10.0.0.0/8}}]
",
    ),
    refused(
        "cidr-ipv4-mapped",
        "An IPv4 range written as IPv6",
        "`::ffff:10.0.0.0/104` is `10.0.0.0/8`. Kubernetes refuses it since 1.36.",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{ipBlock: {cidr: '::ffff:10.0.0.0/104'}}]
",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{ipBlock: {cidr: 10.0.0.0/8}}]
",
    ),
    refused(
        "invalid-protocol",
        "Not a protocol that a NetworkPolicy can name",
        "TCP, UDP and SCTP, in capitals. ICMP has no ports: a rule without `ports` lets every protocol pass.",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{protocol: tcp, port: 80}]
",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{protocol: TCP, port: 80}]
",
    ),
    refused(
        "port-quoted",
        "A number in quotes is the name of a port",
        "`port: \"80\"` is a string, and a string is the name of a container port. Names have a letter.",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{port: '80'}]
",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{port: 80}]
",
    ),
    refused(
        "invalid-port-name",
        "Not the name of a port",
        "At most 15 lower case letters, digits and hyphens, with a letter in it, no hyphen at the ends and no \
         two in a row. A range is `port` and `endPort`.",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{port: 80-90}]
",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{port: 80, endPort: 90}]
",
    ),
    refused(
        "port-range",
        "A port that does not exist",
        "Ports are 1 to 65535. Every port of a protocol is an entry without `port`.",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{port: 0}]
",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{protocol: TCP}]
",
    ),
    refused(
        "end-port-without-port",
        "endPort without port",
        "`endPort` is the last port of a range that `port` begins.",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{endPort: 90}]
",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{port: 80, endPort: 90}]
",
    ),
    refused(
        "end-port-with-name",
        "endPort beside a port name",
        "A range is made of numbers.",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{port: http, endPort: 90}]
",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{port: 80, endPort: 90}]
",
    ),
    refused(
        "end-port-below-port",
        "endPort is below port",
        "`port` is the first one of a range, `endPort` the last.",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{port: 90, endPort: 80}]
",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{port: 80, endPort: 90}]
",
    ),
    refused(
        "end-port-range",
        "An endPort that does not exist",
        "Ports are 1 to 65535.",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{port: 80, endPort: 70000}]
",
        "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{port: 80, endPort: 65535}]
",
    ),
    refused(
        "selector-values-missing",
        "In and NotIn need values",
        "A requirement with `In` or `NotIn` has a list of values; `Exists` and `DoesNotExist` have none.",
        "\
podSelector: {matchExpressions: [{key: app, operator: In}]}
policyTypes: [Ingress]
",
        "\
podSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}
policyTypes: [Ingress]
",
    ),
    refused(
        "selector-values-forbidden",
        "Exists and DoesNotExist take no values",
        "To ask for values write `In` or `NotIn`.",
        "\
podSelector: {matchExpressions: [{key: app, operator: Exists, values: [web]}]}
policyTypes: [Ingress]
",
        "\
podSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}
policyTypes: [Ingress]
",
    ),
    refused(
        "selector-operator",
        "Not an operator of a selector",
        "`In`, `NotIn`, `Exists`, `DoesNotExist`, written so.",
        "\
podSelector: {matchExpressions: [{key: app, operator: in, values: [web]}]}
policyTypes: [Ingress]
",
        "\
podSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}
policyTypes: [Ingress]
",
    ),
    refused(
        "invalid-label-key",
        "Not a label key",
        "A key is a name of letters, digits, `-`, `_` and `.`, at most 63 characters, with a DNS name and a \
         slash before it or without.",
        "podSelector: {matchLabels: {'-app': web}}\npolicyTypes: [Ingress]\n",
        "podSelector: {matchLabels: {app: web}}\npolicyTypes: [Ingress]\n",
    ),
    refused(
        "invalid-label-value",
        "Not a label value",
        "A value is empty, or made of letters, digits, `-`, `_` and `.`, at most 63 characters, with a letter \
         or digit at both ends.",
        "podSelector: {matchLabels: {app: my app}}\npolicyTypes: [Ingress]\n",
        "podSelector: {matchLabels: {app: my-app}}\npolicyTypes: [Ingress]\n",
    ),
    refused(
        "api-version",
        "Not the apiVersion of NetworkPolicies",
        "`networking.k8s.io/v1` is the only one; `extensions/v1beta1` is gone since Kubernetes 1.16.",
        "\
apiVersion: extensions/v1beta1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
",
        "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
",
    ),
    refused(
        "kind",
        "The kind is misspelt",
        "Kinds are written with exactly these capitals.",
        "\
apiVersion: networking.k8s.io/v1
kind: Networkpolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
",
        "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
",
    ),
    refused(
        "missing-name",
        "The object has no name",
        "Every object has a name, or a beginning of one (`generateName`).",
        "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
",
        "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
",
    ),
    refused(
        "invalid-name",
        "Not a name of an object",
        "Lower case letters, digits, `-` and `.`, with a letter or digit at both ends of each part, at most \
         253 characters.",
        "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: my_web, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
",
        "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: my-web, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
",
    ),
    refused(
        "invalid-namespace",
        "Not a name of a namespace",
        "Lower case letters, digits and `-`, with a letter or digit at both ends, at most 63 characters.",
        "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: Shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
",
        "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
",
    ),
    refused(
        "invalid-address",
        "Not an address",
        "An address of a Pod that cannot be read would leave it without a fence.",
        "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {containers: [{name: web, image: web}]}
status: {podIP: 10.0.0.300}
",
        "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {containers: [{name: web, image: web}]}
status: {podIP: 10.0.0.30}
",
    ),
];
