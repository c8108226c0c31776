//! The owners of addresses: pools, the nodes' blocks and the pods' addresses, with the keys and
//! formats of Calico 2.6.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::datastore::{Datastore, Leaf};

const POOLS: &str = "/calico/v1/ipam/v4/pool";
const BLOCKS: &str = "/calico/ipam/v2/assignment/ipv4/block";
const HOSTS: &str = "/calico/ipam/v2/host";
/// A node's share of a pool.
const BLOCK_PREFIX: u8 = 26;
/// How often to retry for an address while others change the same block.
const TRIES: usize = 100;

/// A pool of addresses for pods.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Pool {
    /// The addresses.
    pub cidr: Ipv4Net,
    /// The tunnel's device, or empty.
    #[serde(default)]
    pub ipip: String,
    /// `always`, `cross-subnet`, or empty.
    #[serde(default)]
    pub ipip_mode: String,
    /// Whether packets that leave the pool get the node's address.
    #[serde(default)]
    pub masquerade: bool,
    /// Whether addresses are assigned from it.
    #[serde(default = "yes")]
    ipam: bool,
    /// Whether no more addresses are assigned from it.
    #[serde(default)]
    disabled: bool,
}

fn yes() -> bool {
    true
}

/// Every pool.
///
/// # Errors No etcd, or an invalid pool.
pub fn pools(store: &Datastore) -> Result<Vec<Pool>> {
    let mut pools: Vec<Pool> = Vec::new();
    for leaf in store.tree(POOLS)? {
        pools.push(serde_json::from_str(&leaf.value).with_context(|| leaf.key.clone())?);
    }
    pools.sort_by_key(|pool| pool.cidr);
    Ok(pools)
}

/// Creates a pool if there is none; `ipip` is `off`, `always` or `cross-subnet`.
///
/// # Errors No etcd.
pub fn create_pool(store: &Datastore, cidr: Ipv4Net, ipip: &str, masquerade: bool) -> Result<()> {
    if !pools(store)?.is_empty() {
        return Ok(());
    }
    let pool = Pool::new(cidr, ipip, masquerade);
    // If another node is faster, its pool is used.
    store.create(&pool.key(), &serde_json::to_string(&pool)?)?;
    Ok(())
}

/// Creates a pool, or replaces the one with the same range.
///
/// # Errors No etcd.
pub fn replace_pool(store: &Datastore, cidr: Ipv4Net, ipip: &str, masquerade: bool) -> Result<()> {
    let pool = Pool::new(cidr, ipip, masquerade);
    store.put(&pool.key(), &serde_json::to_string(&pool)?)
}

impl Pool {
    fn new(cidr: Ipv4Net, ipip: &str, masquerade: bool) -> Pool {
        let tunnel = ipip != "off";
        Pool {
            cidr: cidr.trunc(),
            ipip: if tunnel { "tunl0" } else { "" }.to_owned(),
            ipip_mode: if tunnel { ipip } else { "" }.to_owned(),
            masquerade,
            ipam: true,
            disabled: false,
        }
    }

    fn key(&self) -> String {
        format!("{POOLS}/{}", dashed(self.cidr))
    }
}

/// A block: one allocation for each address, which is an index into the attributes.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    cidr: Ipv4Net,
    affinity: Option<String>,
    strict_affinity: bool,
    allocations: Vec<Option<usize>>,
    unallocated: Vec<u32>,
    attributes: Vec<Attribute>,
}

#[derive(Deserialize, Serialize)]
struct Attribute {
    handle_id: Option<String>,
    secondary: Option<BTreeMap<String, String>>,
}

impl Block {
    fn new(cidr: Ipv4Net, node: &str) -> Self {
        let size = 1 << (32 - u32::from(cidr.prefix_len()));
        Self {
            cidr,
            affinity: Some(affinity(node)),
            strict_affinity: false,
            allocations: vec![None; size],
            unallocated: (0..).take(size).collect(),
            attributes: Vec::new(),
        }
    }

    fn of(leaf: &Leaf) -> Result<Self> {
        serde_json::from_str(&leaf.value).with_context(|| leaf.key.clone())
    }

    /// Assigns the address that has been free for the longest time.
    fn assign(&mut self, handle: &str, node: &str, pod: &str) -> Option<Ipv4Addr> {
        if self.unallocated.is_empty() {
            return None;
        }
        let ordinal = self.unallocated.remove(0);
        let place = self.allocations.get_mut(usize::try_from(ordinal).ok()?)?;
        *place = Some(self.attributes.len());
        let secondary = [("node", node), ("pod", pod)].map(|(k, v)| (k.to_owned(), v.to_owned()));
        self.attributes.push(Attribute {
            handle_id: Some(handle.to_owned()),
            secondary: Some(secondary.into()),
        });
        Some(Ipv4Addr::from(u32::from(self.cidr.network()) + ordinal))
    }

    /// The addresses of `handle`.
    fn of_handle(&self, handle: &str) -> Vec<u32> {
        let has = |index: &Option<usize>| {
            let attribute = index.and_then(|index| self.attributes.get(index));
            attribute.is_some_and(|found| found.handle_id.as_deref() == Some(handle))
        };
        let all = (0..).zip(&self.allocations);
        all.filter(|(_, index)| has(index))
            .map(|(o, _)| o)
            .collect()
    }

    /// Frees the addresses of `handle`. Returns whether there were any.
    fn release(&mut self, handle: &str) -> bool {
        let freed = self.of_handle(handle);
        for &ordinal in &freed {
            if let Some(index) = self.allocations[ordinal as usize].take() {
                self.attributes.remove(index);
                // The indexes behind it changed.
                for other in self.allocations.iter_mut().flatten() {
                    *other -= usize::from(*other > index);
                }
            }
            self.unallocated.push(ordinal);
        }
        !freed.is_empty()
    }
}

fn affinity(node: &str) -> String {
    format!("host:{node}")
}

/// A network in the form for a key.
fn dashed(network: Ipv4Net) -> String {
    network.to_string().replace('/', "-")
}

fn affinity_key(node: &str, block: Ipv4Net) -> String {
    format!("{HOSTS}/{node}/ipv4/block/{}", dashed(block))
}

/// Every node's blocks: pairs of the node's name and a block.
///
/// # Errors
/// No etcd.
pub fn blocks(store: &Datastore) -> Result<Vec<(String, Ipv4Net)>> {
    let leaves = store.tree(HOSTS)?;
    let pair = |key: &str| {
        let (node, block) = key
            .strip_prefix(HOSTS)?
            .strip_prefix('/')?
            .split_once("/ipv4/block/")?;
        Some((node.to_owned(), block.replace('-', "/").parse().ok()?))
    };
    let mut blocks: Vec<_> = leaves.iter().filter_map(|leaf| pair(&leaf.key)).collect();
    blocks.sort();
    Ok(blocks)
}

/// The blocks of `node`. A node without a block gets one.
///
/// # Errors No etcd, no pool, or no block left in any pool.
pub fn own_blocks(store: &Datastore, node: &str) -> Result<Vec<Ipv4Net>> {
    let mine = owned(store, node)?;
    if mine.is_empty() {
        return claim(store, node).map(|block| vec![block]);
    }
    Ok(mine)
}

/// From the blocks themselves: a key of the node may be missing if a claim was interrupted.
fn owned(store: &Datastore, node: &str) -> Result<Vec<Ipv4Net>> {
    let mut mine = Vec::new();
    for leaf in store.tree(BLOCKS)? {
        let block = Block::of(&leaf)?;
        if block.affinity == Some(affinity(node)) {
            store.create(&affinity_key(node, block.cidr), "")?;
            mine.push(block.cidr);
        }
    }
    mine.sort();
    Ok(mine)
}

fn claim(store: &Datastore, node: &str) -> Result<Ipv4Net> {
    let taken = store.tree(BLOCKS)?;
    let taken: Vec<&str> = taken.iter().map(|leaf| leaf.key.as_str()).collect();
    let pools = pools(store)?;
    if pools.is_empty() {
        bail!("no configured Calico pools");
    }
    for pool in pools.iter().filter(|pool| pool.ipam && !pool.disabled) {
        let prefix = BLOCK_PREFIX.max(pool.cidr.prefix_len());
        for cidr in pool.cidr.subnets(prefix)? {
            let key = format!("{BLOCKS}/{}", dashed(cidr));
            let block = serde_json::to_string(&Block::new(cidr, node))?;
            // If two nodes claim the same free block, etcd accepts only one.
            if !taken.contains(&key.as_str()) && store.create(&key, &block)? {
                store.put(&affinity_key(node, cidr), "")?;
                return Ok(cidr);
            }
        }
    }
    bail!("no block of addresses is left in any Calico pool");
}

/// Gives `handle` an address from the node's blocks, or from a new block if they are full; `pod` is
/// stored with it.
///
/// # Errors No etcd, or no address left.
pub fn assign(store: &Datastore, node: &str, handle: &str, pod: &str) -> Result<Ipv4Addr> {
    for _ in 0..TRIES {
        let mut lost = false;
        for cidr in own_blocks(store, node)? {
            let Some(leaf) = store.get(&format!("{BLOCKS}/{}", dashed(cidr)))? else {
                continue;
            };
            let mut block = Block::of(&leaf)?;
            let Some(address) = block.assign(handle, node, pod) else {
                continue;
            };
            if store.replace(&leaf, &serde_json::to_string(&block)?)? {
                return Ok(address);
            }
            lost = true;
        }
        if !lost {
            claim(store, node)?;
        }
    }
    bail!("others kept changing the blocks of {node}");
}

/// The address of `handle` in the node's blocks.
///
/// # Errors No etcd.
pub fn address(store: &Datastore, node: &str, handle: &str) -> Result<Option<Ipv4Addr>> {
    for cidr in own_blocks(store, node)? {
        let Some(leaf) = store.get(&format!("{BLOCKS}/{}", dashed(cidr)))? else {
            continue;
        };
        if let Some(ordinal) = Block::of(&leaf)?.of_handle(handle).first() {
            return Ok(Some(Ipv4Addr::from(u32::from(cidr.network()) + ordinal)));
        }
    }
    Ok(None)
}

/// Frees the addresses of `handle`, if it has any.
///
/// # Errors
/// No etcd.
pub fn release(store: &Datastore, node: &str, handle: &str) -> Result<()> {
    for cidr in owned(store, node)? {
        let key = format!("{BLOCKS}/{}", dashed(cidr));
        for attempt in 1.. {
            let Some(leaf) = store.get(&key)? else { break };
            let mut block = Block::of(&leaf)?;
            if !block.release(handle) || store.replace(&leaf, &serde_json::to_string(&block)?)? {
                break;
            }
            if attempt == TRIES {
                bail!("others kept changing {key}");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn block() -> Block {
        Block::new("172.20.0.64/26".parse().unwrap(), "a")
    }

    #[test]
    fn a_block_gives_each_address_once_and_takes_it_back() {
        let mut block = block();
        let given: Vec<_> = (0..64)
            .filter_map(|n| block.assign(&format!("h{n}"), "a", "p"))
            .collect();
        assert_eq!(given.len(), 64);
        assert_eq!(given[0].to_string(), "172.20.0.64");
        assert_eq!(given[63].to_string(), "172.20.0.127");
        assert_eq!(block.assign("more", "a", "p"), None);
        assert!(block.release("h3") && !block.release("h3"));
        assert_eq!(block.of_handle("h63"), [63]);
        assert_eq!(block.assign("more", "a", "p"), Some(given[3]));
    }

    #[test]
    fn a_block_looks_as_calico_writes_it() {
        let mut block = block();
        block.assign("h", "a", "ns.p");
        let value = serde_json::to_value(&block).unwrap();
        assert_eq!(value["cidr"], "172.20.0.64/26");
        assert_eq!(value["affinity"], "host:a");
        assert_eq!(value["strictAffinity"], false);
        assert_eq!(value["allocations"][0], 0);
        assert!(value["allocations"][1].is_null());
        assert_eq!(value["unallocated"][0], 1);
        assert_eq!(value["attributes"][0]["handle_id"], "h");
    }
}
