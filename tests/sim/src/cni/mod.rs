//! The stand-ins for the CNI plugins `calico`, `calico-ipam` and `loopback`: the protocol
//! 0.1.0 to 0.3.1. Results and errors are JSON on standard output.

mod config;
mod link;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::calico::ipam;
use config::Config;

/// The versions of the protocol that the plugins of that time support.
const VERSIONS: [&str; 4] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1"];

/// An error with a code of the CNI specification; other errors have the code 100.
#[derive(Debug)]
struct Coded(u32, String);

impl fmt::Display for Coded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.1)
    }
}

impl std::error::Error for Coded {}

const INCOMPATIBLE_VERSION: u32 = 1;
const UNSUPPORTED_FIELD: u32 = 2;
const INVALID_ENVIRONMENT: u32 = 4;
const UNDECODABLE: u32 = 6;
const INVALID_CONFIG: u32 = 7;

fn coded(code: u32, message: impl Into<String>) -> anyhow::Error {
    Coded(code, message.into()).into()
}

/// Carries out `CNI_COMMAND` as the plugin `name`.
pub fn run(name: &str) -> ExitCode {
    match answer(name) {
        Ok(Some(result)) => println!("{result}"),
        Ok(None) => {}
        Err(error) => {
            let code = error.downcast_ref::<Coded>().map_or(100, |coded| coded.0);
            let message = format!("{error:#}");
            println!(
                "{}",
                json!({"cniVersion": "0.3.1", "code": code, "msg": message})
            );
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn answer(name: &str) -> Result<Option<Value>> {
    let command = variable("CNI_COMMAND")?;
    if command == "VERSION" {
        return Ok(Some(
            json!({"cniVersion": "0.3.1", "supportedVersions": VERSIONS}),
        ));
    }
    if !["ADD", "DEL"].contains(&command.as_str()) {
        return Err(coded(
            INVALID_ENVIRONMENT,
            format!("unknown CNI_COMMAND: {command}"),
        ));
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("the configuration on standard input")?;
    let call = Call::read(command == "ADD")?;
    match name {
        "loopback" => loopback(&call, &text),
        "calico-ipam" => calico_ipam(&call, &text),
        _ => calico(&call, &text),
    }
}

fn variable(name: &str) -> Result<String> {
    let value = std::env::var(name).unwrap_or_default();
    if value.is_empty() {
        return Err(coded(
            INVALID_ENVIRONMENT,
            format!("{name} env variable missing"),
        ));
    }
    Ok(value)
}

/// The arguments from the environment.
struct Call {
    adds: bool,
    container: String,
    /// Empty if the namespace no longer exists.
    namespace: PathBuf,
    interface: String,
    arguments: BTreeMap<String, String>,
}

impl Call {
    fn read(adds: bool) -> Result<Self> {
        let namespace = match variable("CNI_NETNS") {
            Err(error) if adds => return Err(error),
            found => found.unwrap_or_default(),
        };
        let text = std::env::var("CNI_ARGS").unwrap_or_default();
        let mut arguments = BTreeMap::new();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                coded(
                    INVALID_ENVIRONMENT,
                    format!("CNI_ARGS: invalid pair {pair:?}"),
                )
            })?;
            arguments.insert(key.to_owned(), value.to_owned());
        }
        let interface = variable("CNI_IFNAME")?;
        // The kernel's own limits; a valid name is one word for `ip`.
        if interface.len() > 15 || interface.contains(|c: char| c == '/' || c.is_whitespace()) {
            return Err(coded(
                INVALID_ENVIRONMENT,
                format!("CNI_IFNAME: {interface:?} is not the name of an interface"),
            ));
        }
        Ok(Self {
            adds,
            container: variable("CNI_CONTAINERID")?,
            namespace: namespace.into(),
            interface,
            arguments,
        })
    }

    /// Checks whether there is a namespace.
    fn inside(&self) -> Option<&Path> {
        let there = !self.namespace.as_os_str().is_empty() && self.namespace.exists();
        there.then_some(&self.namespace)
    }

    fn pod(&self) -> Option<(&str, &str)> {
        let argument = |name: &str| self.arguments.get(name).map(String::as_str);
        Some((argument("K8S_POD_NAMESPACE")?, argument("K8S_POD_NAME")?))
    }

    /// The pod, or the container if there is no pod.
    fn workload(&self) -> String {
        match self.pod() {
            Some((namespace, name)) => format!("{namespace}.{name}"),
            None => self.container.clone(),
        }
    }

    /// The host's end of the pod's link.
    fn host_interface(&self) -> String {
        let digest = hex::encode(Sha256::digest(self.workload()));
        format!("cali{}", &digest[..11])
    }
}

/// The result of an ADD in the form of the configuration's version.
fn result(config: &Config, address: Ipv4Addr, interfaces: &Value) -> Value {
    let network = Ipv4Net::from(address);
    if config.version.starts_with("0.3") {
        let interface = (!interfaces.is_null()).then_some(1);
        return json!({
            "cniVersion": config.version, "interfaces": interfaces,
            "ips": [{"version": "4", "interface": interface, "address": network}], "dns": {},
        });
    }
    json!({"cniVersion": config.version, "ip4": {"ip": network}, "dns": {}})
}

/// The address in the result of an address plugin, in either form.
fn address_of(result: &Value) -> Result<Ipv4Addr> {
    let text = result["ip4"]["ip"].as_str();
    let text = text.or(result["ips"][0]["address"].as_str());
    let network: Ipv4Net = text
        .context("the IPAM plugin returned no address")?
        .parse()?;
    Ok(network.addr())
}

fn loopback(call: &Call, text: &str) -> Result<Option<Value>> {
    let version = config::version(&config::parse(text)?)?;
    if let Some(namespace) = call.inside() {
        link::set_loopback(namespace, call.adds)?;
    }
    Ok(call.adds.then(|| json!({"cniVersion": version, "dns": {}})))
}

fn calico_ipam(call: &Call, text: &str) -> Result<Option<Value>> {
    let config = Config::read(text)?;
    let store = config.store()?;
    let handle = format!("{}.{}", config.name, call.container);
    if call.adds {
        let address = ipam::assign(&store, &config.node, &handle, &call.workload())?;
        return Ok(Some(result(&config, address, &Value::Null)));
    }
    ipam::release(&store, &config.node, &handle)?;
    Ok(None)
}

fn calico(call: &Call, text: &str) -> Result<Option<Value>> {
    let config = Config::read(text)?;
    if !call.adds {
        delegate(&config, text)?;
        if let Some(namespace) = call.inside() {
            link::remove(namespace, &call.interface)?;
        }
        return Ok(None);
    }
    config.check_pod(call.pod())?;
    let namespace = call.inside().with_context(|| {
        let path = call.namespace.display();
        format!("failed to open netns {path}: no such namespace")
    })?;
    let address =
        address_of(&delegate(&config, text)?.context("the IPAM plugin printed nothing")?)?;
    let host = call.host_interface();
    let made = link::connect(namespace, &call.interface, &host, address, config.mtu);
    let Err(error) = made else {
        let interfaces = json!([
            {"name": host},
            {"name": call.interface, "sandbox": call.namespace},
        ]);
        return Ok(Some(result(&config, address, &interfaces)));
    };
    // A pod that is not connected must not keep its address.
    if let Err(second) = release(&config, text) {
        return Err(error.context(format!("the address could not be released: {second:#}")));
    }
    Err(error)
}

/// Calls the address plugin with the same command.
fn delegate(config: &Config, text: &str) -> Result<Option<Value>> {
    call_ipam(config, text, None)
}

fn release(config: &Config, text: &str) -> Result<()> {
    call_ipam(config, text, Some("DEL")).map(|_| ())
}

fn call_ipam(config: &Config, text: &str, command: Option<&str>) -> Result<Option<Value>> {
    use std::io::Write;
    let path = variable("CNI_PATH")?;
    let mut places = path
        .split(':')
        .map(|place| Path::new(place).join(&config.ipam));
    let program = places.find(|place| place.is_file()).ok_or_else(|| {
        let missing = format!("failed to find plugin {:?} in path [{path}]", config.ipam);
        anyhow::anyhow!(missing)
    })?;
    let mut plugin = Command::new(&program);
    if let Some(command) = command {
        plugin.env("CNI_COMMAND", command);
    }
    let mut child = plugin
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| program.display().to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let said: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    if !output.status.success() {
        let message = said.as_ref().and_then(|said| said["msg"].as_str());
        bail!("{}: {}", config.ipam, message.unwrap_or("failed"));
    }
    Ok(said)
}
