//! The nodes' network: a bridge in the network namespace that all nodes are made from, and a cable to it from each.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::addresses;
use crate::options::NODES_LIMIT;

/// Makes the bridge in the network namespace of this process. What nobody has an address for is refused at once there,
/// instead of waiting for an answer.
pub fn make_fabric() -> Result<()> {
    let (address, bits) = (addresses::FABRIC, addresses::FABRIC_PREFIX_BITS);
    run(&["ip", "link", "set", "lo", "up"])?;
    run(&["ip", "link", "add", BRIDGE, "type", "bridge"])?;
    run(&["ip", "address", "add", &format!("{address}/{bits}"), "dev", BRIDGE])?;
    run(&["ip", "link", "set", BRIDGE, "up"])?;
    run(&["ip", "route", "add", "unreachable", "default"])?;
    route_pods(None)?;
    forward()
}

/// Connects the network namespace of this process, whose parent is in that of the bridge.
pub fn connect(number: u8) -> Result<()> {
    let fabric = format!("--net=/proc/{}/ns/net", nix::unistd::getppid());
    let this = std::process::id().to_string();
    let cable = format!("node{number}");
    let outside = |arguments: &[&str]| run(&[&["nsenter", &fabric, "ip"], arguments].concat());
    outside(&["link", "add", &cable, "type", "veth", "peer", "name", DEVICE, "netns", &this])?;
    outside(&["link", "set", &cable, "master", BRIDGE, "up"])?;
    let address = format!("{}/{}", addresses::of_node(number), addresses::FABRIC_PREFIX_BITS);
    run(&["ip", "link", "set", "lo", "up"])?;
    run(&["ip", "address", "add", &address, "dev", DEVICE])?;
    run(&["ip", "link", "set", DEVICE, "up"])?;
    run(&["ip", "route", "add", "default", "via", &addresses::FABRIC.to_string()])?;
    route_pods(Some(number))?;
    forward()
}

/// The pods of all nodes, but of the one that this is, are behind their nodes.
fn route_pods(this: Option<u8>) -> Result<()> {
    for node in (1..=NODES_LIMIT).filter(|node| Some(*node) != this) {
        let (pods, via) = (addresses::pods_of_node(node), addresses::of_node(node).to_string());
        run(&["ip", "route", "add", &pods, "via", &via])?;
    }
    Ok(())
}

fn forward() -> Result<()> {
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("switch forwarding on")
}

fn run(words: &[&str]) -> Result<()> {
    let (program, arguments) = words.split_first().context("no program")?;
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("start {program}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}: {complaint}", words.join(" "), output.status);
    Ok(())
}

/// The device of a node; the bridge has one of the node's name.
pub const DEVICE: &str = "eth0";
const BRIDGE: &str = "heddle0";
