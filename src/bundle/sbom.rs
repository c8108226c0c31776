//! The software bill of materials (SBOM): the content of a payload, in the format CycloneDX 1.5. The
//! same payload gives the same text, because it has no time and no serial number.

use anyhow::{Context, Result};
use cyclonedx_bom::models::bom::{Bom, SpecVersion};
use cyclonedx_bom::models::component::{Classification, Component, Components};
use cyclonedx_bom::models::external_reference::{
    ExternalReference, ExternalReferenceType, ExternalReferences,
};
use cyclonedx_bom::models::hash::{Hash, HashAlgorithm, HashValue, Hashes};
use cyclonedx_bom::models::license::{LicenseChoice, Licenses};
use cyclonedx_bom::models::metadata::Metadata;
use cyclonedx_bom::models::organization::OrganizationalEntity;
use cyclonedx_bom::models::property::{Properties, Property};
use cyclonedx_bom::models::tool::{Tool, Tools};
use cyclonedx_bom::prelude::{NormalizedString, Uri};

use super::manifest::{self, Kind, Manifest};
use crate::digest::Digest;

/// The start of the names of this project's own properties.
const NAMESPACE: &str = "appliance";

/// The bill of the payload with this manifest, as JSON.
pub fn cyclonedx(manifest: &Manifest) -> Result<String> {
    let bundle = &manifest.bundle;
    let mut subject = Component::new(
        Classification::Application,
        &format!("appliance bundle {}", bundle.name),
        &bundle.kubernetes,
        Some(format!("bundle/{}", bundle.name)),
    );
    subject.description = Some(NormalizedString::new(&bundle.description));
    let tool = Tool::new("appliance", "appliance", env!("CARGO_PKG_VERSION"));
    // All fields are set, because the default would draw a random number.
    let bom = Bom {
        version: 1,
        serial_number: None,
        metadata: Some(Metadata {
            tools: Some(Tools::List(vec![tool])),
            component: Some(subject),
            ..Metadata::default()
        }),
        components: Some(Components(
            manifest.components.iter().map(component).collect(),
        )),
        services: None,
        external_references: None,
        dependencies: None,
        compositions: None,
        properties: None,
        vulnerabilities: None,
        signature: None,
        annotations: None,
        formulation: None,
        spec_version: SpecVersion::V1_5,
    };
    let mut text = Vec::new();
    bom.output_as_json(&mut text, SpecVersion::V1_5)
        .context("cannot write the bill of materials")?;
    text.push(b'\n');
    Ok(String::from_utf8(text)?)
}

fn component(of: &manifest::Component) -> Component {
    let classification = match of.kind {
        Kind::Image => Classification::Container,
        Kind::Program | Kind::CniPlugin => Classification::Application,
    };
    let mut component =
        Component::new(classification, &of.name, &of.version, Some(of.path.clone()));
    component.hashes = Some(hashes(&Digest::from(&of.sha256)));
    component.supplier = of.supplier.as_deref().map(OrganizationalEntity::new);
    let license = of.license.as_deref().map(LicenseChoice::expression);
    component.licenses = license.map(|license| Licenses(vec![license]));
    component.external_references = of.source.as_deref().map(|source| {
        let kind = ExternalReferenceType::Distribution;
        let mut reference = ExternalReference::new(kind, Uri::new(source));
        reference.hashes = of.source_digest.as_ref().map(hashes);
        ExternalReferences(vec![reference])
    });
    component.properties = Some(Properties(properties(of)));
    component
}

fn hashes(digest: &Digest) -> Hashes {
    let algorithm = match digest {
        Digest::Sha256(_) => HashAlgorithm::SHA_256,
        Digest::Sha512(_) => HashAlgorithm::SHA_512,
    };
    Hashes(vec![Hash {
        alg: algorithm,
        content: HashValue(digest.digits().to_owned()),
    }])
}

fn properties(of: &manifest::Component) -> Vec<Property> {
    let size = of.size.to_string();
    let all = [
        ("path", Some(of.path.as_str())),
        ("size", Some(size.as_str())),
        ("member", of.member.as_deref()),
        ("image-reference", of.reference.as_deref()),
        ("image-id", of.image_id.as_deref()),
    ];
    let present = all
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    present
        .map(|(name, value)| Property::new(format!("{NAMESPACE}:{name}"), value))
        .collect()
}
