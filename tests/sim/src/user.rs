//! The user of a request, whom the API and the kubelet identify by a certificate.

use x509_parser::prelude::{FromDer, X509Certificate};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The groups the user is in.
    pub groups: Vec<String>,
}

impl User {
    /// An authenticated user.
    pub fn authenticated(name: String, mut groups: Vec<String>) -> Self {
        groups.push("system:authenticated".to_owned());
        Self { name, groups }
    }

    /// A user without authentication.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
        }
    }

    /// Every user of the insecure port.
    pub fn unsecured() -> Self {
        Self::authenticated(
            "system:unsecured".to_owned(),
            vec!["system:masters".to_owned()],
        )
    }

    /// The owner of a verified certificate: its common name is the user, its
    /// organizations the groups.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups = subject
            .iter_organization()
            .filter_map(|organization| organization.as_str().ok())
            .map(str::to_owned)
            .collect();
        Some(Self::authenticated(name, groups))
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// The node of this kubelet.
    pub fn node(&self) -> Option<&str> {
        let name = self.name.strip_prefix("system:node:")?;
        (self.is_in("system:nodes") && !name.is_empty()).then_some(name)
    }
}
