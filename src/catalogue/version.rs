//! Which server's verdict is predicted.

use crate::{
    finding::{Finding, Severity},
    k8s::convert,
};
use std::{fmt, str::FromStr};

/// A minor version of Kubernetes: `1.36`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u16);

impl Version {
    /// From here on servers refuse CIDRs that can be read in two ways (KEP-4858, StrictIPCIDRValidation).
    const STRICT_CIDRS: Version = Version(36);

    /// Whether this server refuses CIDRs that can be read in two ways.
    pub fn is_strict(self) -> bool {
        self >= Version::STRICT_CIDRS
    }

    /// What an older server says of a finding.
    pub(super) fn predict(self, finding: &mut Finding) {
        if !self.is_strict() && convert::STRICT_CIDRS.contains(&finding.rule) {
            finding.server = false;
            finding.severity = Severity::Warning;
        }
    }
}

impl Default for Version {
    /// The newest that is known.
    fn default() -> Self {
        Self(37)
    }
}

impl FromStr for Version {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let minor = text.trim_start_matches('v').strip_prefix("1.").and_then(|rest| rest.split('.').next());
        let minor = minor.and_then(|minor| minor.parse().ok());
        minor.map(Self).ok_or_else(|| format!("{text:?} is no version of Kubernetes: write 1.36"))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}
