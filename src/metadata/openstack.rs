//! OpenStack's description of a server: `meta_data.json`, `network_data.json` and the files beside
//! them, in the same format on a config drive and on the metadata service. Pure: bytes in,
//! [`Metadata`] out.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;

use super::model::{Interface, Metadata, VendorData, VendorFormat};

/// The file that describes the server.
pub const META_DATA: &str = "meta_data.json";
/// The file that describes its network interfaces.
pub const NETWORK_DATA: &str = "network_data.json";
/// The file with the user-data, in any format that cloud-init accepts.
pub const USER_DATA: &str = "user_data";
/// The file with the vendor-data, which is the same for all servers of the cloud.
pub const VENDOR_DATA: &str = "vendor_data.json";
/// The same, with a part for each service that adds to it.
pub const VENDOR_DATA_2: &str = "vendor_data2.json";
/// The maximum size of each file, in bytes; Nova writes a few KiB.
pub const SIZE_LIMIT: u64 = 1 << 20;

/// The least MTU an IPv4 link may have (RFC 791), and the most an IP packet can fill.
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65_535;
/// How many characters of the input an error message repeats.
const QUOTE_LIMIT: usize = 80;

/// A file from a source. It may hold the administrator's password, so it has no `Debug`.
#[derive(Clone)]
pub struct RawFile {
    /// Its name in error messages: `openstack/latest/meta_data.json`.
    pub name: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// The files of a source, not yet parsed.
pub struct RawFiles {
    /// `meta_data.json`.
    pub meta_data: RawFile,
    /// `network_data.json`, which clouds older than Liberty do not write.
    pub network_data: Option<RawFile>,
    /// `user_data`, if the server has any.
    pub user_data: Option<RawFile>,
    /// `vendor_data2.json` and `vendor_data.json`, if the cloud writes them.
    pub vendor_data: Vec<(VendorFormat, RawFile)>,
    /// The floating IP as text; empty if the server has none.
    pub public_ipv4: Option<RawFile>,
}

/// The keys of `meta_data.json` that this program uses. All others are ignored.
#[derive(serde::Deserialize)]
struct MetaData {
    uuid: String,
    name: String,
    hostname: String,
    #[serde(default)]
    meta: BTreeMap<String, String>,
    availability_zone: Option<String>,
    project_id: Option<String>,
    launch_index: Option<u64>,
}

#[derive(serde::Deserialize)]
struct NetworkData {
    #[serde(default)]
    links: Vec<Object<Link>>,
    #[serde(default)]
    networks: Vec<Object<Network>>,
}

#[derive(serde::Deserialize)]
struct Link {
    id: String,
    ethernet_mac_address: String,
    mtu: Option<u32>,
    vif_id: Option<String>,
    vlan_id: Option<u16>,
    vlan_link: Option<String>,
}

#[derive(serde::Deserialize)]
struct Network {
    link: String,
    #[serde(rename = "type")]
    kind: String,
    ip_address: Option<String>,
    network_id: Option<String>,
    #[serde(default)]
    routes: Vec<Object<Route>>,
}

#[derive(serde::Deserialize)]
struct Route {
    network: Option<String>,
    netmask: Option<String>,
}

/// A value that must be a JSON object: by default, serde also reads a struct's fields from a list.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// Parses the files of `source`, which is the later [`Metadata::source`].
///
/// # Errors
/// If a file is not UTF-8, not JSON, lacks a key or has a value of the wrong type or out of
/// range. The error names source, file, and where it is: line, column and JSON path. Of the
/// input it repeats only keys, addresses and identifiers, never a value that may be secret.
pub fn parse(source: &str, files: &RawFiles) -> Result<Metadata> {
    let place = |file: &RawFile| format!("{source}: {}", file.name);
    let meta: MetaData = decode(&files.meta_data).with_context(|| place(&files.meta_data))?;
    let interfaces = match &files.network_data {
        Some(file) => decode(file)
            .and_then(interfaces)
            .with_context(|| place(file))?,
        None => Vec::new(),
    };
    let public_ipv4 = match &files.public_ipv4 {
        Some(file) => floating_ip(&file.content).with_context(|| place(file))?,
        None => None,
    };
    let vendor_data = |(format, file): &(VendorFormat, RawFile)| VendorData {
        name: place(file),
        format: *format,
        content: file.content.clone(),
    };
    Ok(Metadata {
        source: source.to_owned(),
        uuid: meta.uuid,
        name: meta.name,
        hostname: meta.hostname,
        meta: meta.meta,
        availability_zone: meta.availability_zone,
        project_id: meta.project_id,
        launch_index: meta.launch_index,
        interfaces,
        public_ipv4,
        user_data: files.user_data.as_ref().map(|file| file.content.clone()),
        vendor_data: files.vendor_data.iter().map(vendor_data).collect(),
        date: None,
    })
}

/// The address in EC2's `public-ipv4`; a server without a floating IP has an empty one.
fn floating_ip(content: &[u8]) -> Result<Option<Ipv4Addr>> {
    let text = String::from_utf8_lossy(content);
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        anyhow!(
            "is \"{}\"; expected an IPv4 address or nothing",
            shorten(text)
        )
    })
}

fn decode<'a, T: Deserialize<'a>>(file: &'a RawFile) -> Result<T> {
    let text = std::str::from_utf8(&file.content)
        .map_err(|e| anyhow!("byte {} is not UTF-8", e.valid_up_to() + 1))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let Object(value) = serde_path_to_error::deserialize(&mut json)
        .map_err(|e| describe(e.path().iter().next().map(|_| e.path()), e.inner()))?;
    json.end().map_err(|e| describe(None, &e))?;
    Ok(value)
}

/// Describes the place and the cause, without the value itself: a property may be a password.
fn describe(path: Option<&serde_path_to_error::Path>, error: &serde_json::Error) -> Error {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let text = text
        .strip_suffix(&format!(" at line {line} column {column}"))
        .unwrap_or(&text);
    // `invalid type: integer `5`, expected a string`: the value is between the two.
    let reason = match text.rsplit_once(", expected ") {
        Some((found, expected)) if error.classify() == Category::Data => {
            let kind = found
                .split(['`', '"', ','])
                .next()
                .unwrap_or(found)
                .trim_end();
            format!("{kind}, expected {expected}")
        }
        _ => text.to_owned(),
    };
    match path {
        Some(path) => anyhow!(
            "line {line} column {column}: `{}`: {reason}",
            shorten(&path.to_string())
        ),
        None => anyhow!("line {line} column {column}: {reason}"),
    }
}

/// The interfaces with their static addresses, in the order of the links.
fn interfaces(data: NetworkData) -> Result<Vec<Interface>> {
    let mut interfaces: Vec<(String, Interface)> = Vec::new();
    for (index, Object(link)) in data.links.into_iter().enumerate() {
        let mut interface = interface(&link).with_context(|| format!("`links[{index}]`"))?;
        // A VLAN has the MTU of the interface below it, unless it has one of its own.
        let below = link.vlan_link.as_ref();
        let below = below.and_then(|below| interfaces.iter().find(|(id, _)| id == below));
        interface.mtu = interface
            .mtu
            .or_else(|| below.and_then(|(_, below)| below.mtu));
        ensure!(
            interfaces.iter().all(|(id, _)| *id != link.id),
            "`links[{index}].id`: another link has the id \"{}\" too",
            shorten(&link.id)
        );
        interfaces.push((link.id, interface));
    }
    for (index, Object(network)) in data.networks.iter().enumerate() {
        let address = static_address(network).with_context(|| format!("`networks[{index}]`"))?;
        let Some((_, interface)) = interfaces.iter_mut().find(|(id, _)| *id == network.link) else {
            let known: Vec<String> = interfaces.iter().map(|(id, _)| shorten(id)).collect();
            bail!(
                "`networks[{index}].link` is \"{}\", but the links are: {}",
                shorten(&network.link),
                shorten(&known.join(", "))
            );
        };
        interface.addresses.extend(address);
        interface.dhcp |= network.kind == "ipv4_dhcp";
        interface
            .networks
            .extend(network.network_id.clone().filter(|id| is_uuid(id)));
        interface.default_route |= network.routes.iter().any(|Object(route)| {
            let is_any = |text: &Option<String>| text.as_deref() == Some("0.0.0.0");
            is_any(&route.network) && is_any(&route.netmask)
        });
    }
    Ok(interfaces
        .into_iter()
        .map(|(_, interface)| interface)
        .collect())
}

fn interface(link: &Link) -> Result<Interface> {
    if let Some(mtu) = link.mtu {
        ensure!(
            MTU_RANGE.contains(&mtu),
            "`mtu` is {mtu}; expected {} to {}, or null",
            MTU_RANGE.start(),
            MTU_RANGE.end()
        );
    }
    let mac = link.ethernet_mac_address.to_ascii_lowercase();
    ensure!(
        is_mac(&mac),
        "`ethernet_mac_address` is \"{}\"; expected six pairs of hexadecimal digits, as in fa:16:3e:00:00:01",
        shorten(&mac)
    );
    Ok(Interface {
        mac,
        mtu: link.mtu,
        vlan: link.vlan_id,
        port: link.vif_id.clone().filter(|id| is_uuid(id)),
        ..Interface::default()
    })
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

fn is_mac(text: &str) -> bool {
    let is_pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    text.split(':').count() == 6 && text.split(':').all(is_pair)
}

/// The address of a network of type `ipv4` or `ipv6`. With every other type (`ipv4_dhcp`,
/// `ipv6_slaac` and so on) the machine gets its address from the network.
fn static_address(network: &Network) -> Result<Option<IpAddr>> {
    let is_version_6 = match network.kind.as_str() {
        "ipv4" => false,
        "ipv6" => true,
        _ => return Ok(None),
    };
    let text = network
        .ip_address
        .as_deref()
        .with_context(|| format!("type {} without `ip_address`", network.kind))?;
    // The format allows a prefix length after the address, or a separate netmask.
    let address = match text.parse::<ipnet::IpNet>() {
        Ok(net) => Some(net.addr()),
        Err(_) => text.parse().ok(),
    };
    match address {
        Some(address) if address.is_ipv6() == is_version_6 => Ok(Some(address)),
        _ => bail!(
            "`ip_address` is \"{}\"; expected an {} address",
            shorten(text),
            if is_version_6 { "IPv6" } else { "IPv4" }
        ),
    }
}

/// Makes a piece of the input safe for an error message: one line, of limited length.
fn shorten(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(QUOTE_LIMIT)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(QUOTE_LIMIT).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
