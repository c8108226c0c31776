//! The certificates on a node, independent of its state.

use anyhow::{Context, Result};

use crate::components::{self, BALANCER_NAME};
use crate::nodespec::{Profile, Role, Shape};
use crate::paths;
use crate::pki::inspect::{self, CertificateInfo};
use crate::sys::root::Root;

/// One certificate with further facts.
pub struct HeldCertificate {
    /// Its name.
    pub name: &'static str,
    /// Its content.
    pub info: CertificateInfo,
    /// Whether the CA for it, on this node, signed it.
    pub signed: bool,
    /// The services that a renewal restarts.
    pub restarts: Vec<&'static str>,
}

/// Every certificate below `root`, in the order of the table; none where nothing is installed.
pub fn held(root: &Root) -> Result<Vec<HeldCertificate>> {
    let shape = shape(root)?;
    let mut held = Vec::new();
    for name in components::certificate_names(Role::Single) {
        let path = paths::certificate(name);
        let Some(pem) = root.read(&path)? else {
            continue;
        };
        let info = inspect::inspect(&pem).with_context(|| path.clone())?;
        let above = components::authority_of(name);
        let authority = root.read(&paths::certificate(above))?.unwrap_or_default();
        held.push(HeldCertificate {
            name,
            signed: inspect::is_signed_by(&pem, &authority).unwrap_or(false) || name == above,
            restarts: components::restarted_for(name, shape),
            info,
        });
    }
    Ok(held)
}

/// The shape of the node with these files, as far as they show it.
fn shape(root: &Root) -> Result<Shape> {
    let balancer = paths::unit(&format!("{BALANCER_NAME}.service"));
    Ok(Shape {
        role: match root.exists(&paths::certificate("kubernetes"))? {
            true => Role::Single,
            false => Role::Worker,
        },
        profile: Profile::WithCa,
        balanced: root.exists(&balancer)?,
    })
}
