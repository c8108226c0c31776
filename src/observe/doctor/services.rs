//! The services of the node: units, docker, etcd.

use std::collections::BTreeMap;

use anyhow::{Error, Result};

use super::{ANSWER, Place, Put, said, text, unread};
use crate::clients::etcd::database::{alarms, database};
use crate::clients::etcd::{reach, version};
use crate::clients::{journal, mtls, systemd};
use crate::components::{self, Health, UnitKind};
use crate::doctor::facts::{DockerSays, Etcd, Node, Unit, UnitFile};
use crate::nodespec::ports::{BALANCER, ETCD_CLIENTS};
use crate::nodespec::{Profile, Reach};
use crate::observe::images;
use crate::observe::records;
use crate::observe::software::docker_of_node;
use crate::paths;
use crate::sys::process::{Runner, TookTooLong};
use crate::sys::root::Root;
use crate::sys::{http, parallel};

/// How many lines of a journal are read.
const LINES: usize = 60;
/// How many journals and health endpoints are asked at once.
const AT_ONCE: usize = 8;

/// The units of the node, the health of each service, and the journals of those that are not healthy.
pub fn units<R: Runner + Sync>(place: &Place<R>) -> Result<Put> {
    let Some(node) = &place.node else {
        return Ok(Box::new(|_| {}));
    };
    let services = components::services(node.shape);
    let names: Vec<&str> = services.iter().map(|service| service.name).collect();
    let details = systemd::details(&place.runner, &names)?;
    let reach = reach_of(&place.root, node);
    let asked = parallel::map(&services, AT_ONCE, |service| {
        let detail = details.get(service.name).cloned().unwrap_or_default();
        let health = service
            .health
            .zip(reach)
            .map(|(health, reach)| (health(reach), reach.tls));
        let is_active = detail.unit.active_state == "active";
        let health = health.filter(|_| is_active);
        let unhealthy = health.and_then(|(health, tls)| unhealthy(&place.root, &health, tls).err());
        let mut unit = Unit {
            load: detail.unit.load_state,
            active: detail.unit.active_state,
            sub: detail.unit.sub_state,
            enabled: detail.enabled,
            may_end: service.unit == UnitKind::MayEnd,
            unhealthy: unhealthy.map(|error| said(&format!("{error:#}"))),
            lines: Vec::new(),
        };
        if unit.is_down() {
            unit.lines = journal::since_boot(&place.runner, &service.unit(), LINES);
        }
        (service.name.to_owned(), unit)
    });
    let units: BTreeMap<String, Unit> = asked.into_iter().collect();
    let stale = details.into_iter().filter(|(_, detail)| detail.is_stale);
    let stale: Vec<(String, UnitFile)> = stale.map(|(name, _)| (name, UnitFile::Stale)).collect();
    Ok(Box::new(|facts| {
        facts.units = units;
        facts.unit_files.extend(stale);
    }))
}

fn reach_of(root: &Root, node: &Node) -> Option<Reach> {
    let state = records::state(root).ok().flatten();
    Some(Reach {
        address: node.address?,
        tls: node.shape.profile == Profile::WithCa,
        balancer: state
            .and_then(|state| state.balancer_port)
            .unwrap_or(BALANCER),
    })
}

fn unhealthy(root: &Root, health: &Health, tls: bool) -> Result<()> {
    let client = match health.client.filter(|_| tls) {
        Some(name) => mtls::client(root, name, ANSWER)?,
        None => http::client(&[], None, ANSWER)?,
    };
    http::get(&client, &health.url)
}

/// What docker says, and the images that it lost; or that it does not answer in time.
pub fn docker<R: Runner>(place: &Place<R>) -> Result<Put> {
    let (root, runner) = (&place.root, &place.runner);
    let docker = docker_of_node(root)?.filter(|_| place.node.is_some());
    let Some(docker) = docker else {
        return Ok(Box::new(|_| {}));
    };
    let info = match docker.info(runner) {
        Err(error) if error.is::<TookTooLong>() => return Ok(hangs(&error)),
        info => info?,
    };
    let Some(info) = info else {
        return Ok(Box::new(|_| {}));
    };
    let unit = text(root, &paths::unit("kubelet.service")).unwrap_or_default();
    let driver = unit.split("--cgroup-driver=").nth(1);
    let driver = driver.and_then(|rest| rest.split_whitespace().next());
    let says = DockerSays {
        cgroup_driver: info.cgroup_driver,
        kubelet_driver: driver.map(str::to_owned),
        storage_driver: docker.storage_driver(runner)?,
    };
    let missing = images::missing(root, runner, &docker, records::images(root)?)?;
    let missing: Vec<String> = missing.into_iter().map(|image| image.reference).collect();
    Ok(Box::new(|facts| {
        facts.docker = Some(says);
        facts.images_missing = missing;
    }))
}

fn hangs(error: &Error) -> Put {
    let unread = unread("docker", &format!("{error:#}"));
    Box::new(|facts| {
        facts.docker_hangs = true;
        facts.unread.push(unread);
    })
}

/// What etcd on this master says.
pub fn etcd<R: Runner>(place: &Place<R>) -> Result<Put> {
    let node = place.node.as_ref();
    let Some(node) = node.filter(|node| node.shape.role.is_master()) else {
        return Ok(Box::new(|_| {}));
    };
    let (scheme, client) = reach(&place.root, node.shape.profile, ANSWER)?;
    let server = format!("{scheme}://127.0.0.1:{ETCD_CLIENTS}");
    let answers = version(&client, &server).is_ok();
    // Without an answer, its unit tells more.
    let database = answers.then(|| database(&client, &server).ok()).flatten();
    let alarms = answers.then(|| alarms(&client, &server).ok()).flatten();
    let etcd = Etcd {
        answers,
        has_leader: database.map(|database| database.has_leader),
        alarms: alarms
            .unwrap_or_default()
            .into_iter()
            .map(|alarm| alarm.kind)
            .collect(),
    };
    Ok(Box::new(|facts| facts.etcd = Some(etcd)))
}
