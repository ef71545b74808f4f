//! Which characters names, label keys and label values are made of.
//!
//! apimachinery, `util/validation`: each function says what is wrong with a text, or nothing.

/// A label value: empty, or at most 63 letters, digits, `-`, `_`, `.`, with a letter or digit at both ends.
pub(super) fn label_value(text: &str) -> Option<String> {
    if text.is_empty() { None } else { label_part(text, "a label value") }
}

/// A label key: a name, with a DNS name and a slash before it or without.
pub(super) fn label_key(text: &str) -> Option<String> {
    match text.split_once('/') {
        None => label_part(text, "a label key"),
        Some((_, name)) if name.contains('/') => Some("a label key has at most one slash".to_owned()),
        Some((prefix, name)) => match dns_subdomain(prefix) {
            Some(_) => Some("what stands before the slash of a label key is a DNS name".to_owned()),
            None => label_part(name, "a label key"),
        },
    }
}

/// Lower case letters, digits, `-` and `.`, each part with a letter or digit at both ends, at most 253 (RFC 1123).
pub(super) fn dns_subdomain(text: &str) -> Option<String> {
    let good = text.len() <= 253 && text.as_bytes().split(|byte| *byte == b'.').all(is_dns_part);
    (!good).then(|| {
        "a name is made of lower case letters, digits, '-' and '.', begins and ends with a letter or digit, and has at most 253 characters".to_owned()
    })
}

/// The same without a dot, at most 63.
pub(super) fn dns_label(text: &str) -> Option<String> {
    let good = text.len() <= 63 && is_dns_part(text.as_bytes());
    (!good).then(|| {
        "a namespace is made of lower case letters, digits and '-', begins and ends with a letter or digit, and has at most 63 characters".to_owned()
    })
}

/// The name of a port: at most 15 lower case letters, digits and hyphens, one letter at least (RFC 6335).
pub(super) fn port_name(text: &str) -> Option<String> {
    let why = if text.len() > 15 {
        "has at most 15 characters"
    } else if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') || text.is_empty() {
        "is made of lower case letters, digits and '-'"
    } else if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        "has at least one letter"
    } else if text.contains("--") || text.starts_with('-') || text.ends_with('-') {
        "has no hyphen at an end and no two in a row"
    } else {
        return None;
    };
    Some(format!("the name of a port {why}"))
}

/// A name of this kind that is as near as can be.
pub(super) fn as_dns(text: &str) -> String {
    let near: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' })
        .collect();
    near.split('.').map(|part| part.trim_matches('-')).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
}

fn is_dns_part(part: &[u8]) -> bool {
    let inside = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    !part.is_empty() && part.iter().all(inside) && !part.starts_with(b"-") && !part.ends_with(b"-")
}

fn label_part(text: &str, what: &str) -> Option<String> {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let bytes = text.as_bytes();
    let good = bytes.len() <= 63 && bytes.iter().all(inside) && ends(bytes.first()) && ends(bytes.last());
    (!good).then(|| {
        format!("{what} is made of letters, digits, '-', '_' and '.', begins and ends with a letter or digit, and has at most 63 characters")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_may_be_empty_and_keys_may_not() {
        assert_eq!(label_value(""), None);
        assert!(label_key("").is_some());
        for good in ["web", "v1.2_3-x", "A"] {
            assert_eq!((label_value(good), label_key(good)), (None, None));
        }
        for bad in ["my app", "-app", "app.", &"a".repeat(64), "ü"] {
            assert!(label_value(bad).is_some() && label_key(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn the_prefix_of_a_label_key_is_a_dns_name() {
        assert_eq!(label_key("kubernetes.io/metadata.name"), None);
        for bad in ["/a", "a/", "a/b/c", "Example.com/a", "a_b/c"] {
            assert!(label_key(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn a_port_name_has_a_letter() {
        assert_eq!(port_name("http-2"), None);
        for bad in ["80", "80-90", "this-name-is-too-long", "HTTP", "a--b", "-a", "a-", ""] {
            assert!(port_name(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn the_name_that_is_proposed_is_one() {
        for bad in ["my_web", "My Web", "-a.-b-"] {
            assert_eq!(dns_subdomain(&as_dns(bad)), None, "{}", as_dns(bad));
        }
    }
}
