//! Whether a workload is ready: its proxy says so, its processes run, and its ports are listened on.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::time::timeout;

use super::{Actor, sidecar};
use crate::http;
use crate::listening::{Listener, listener, listening};
use crate::process::Phase;

impl Actor {
    /// Asks the proxy, unless this same process has said so before.
    pub(super) async fn proxy_is_ready(&self) -> bool {
        let Some(proxy) = self.proxy() else { return !self.plan.meshed };
        let Phase::Running { pid } = proxy.state().phase else {
            self.say(format!("proxy: {}", proxy.status().state));
            return false;
        };
        if self.ready_proxy.get() == Some(pid) {
            return true;
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, sidecar::ADMIN_PORT));
        match timeout(PROXY_ANSWER_WITHIN, http::get(address, "/ready")).await {
            Ok(Ok(answer)) if answer.status == 200 => {
                self.ready_proxy.set(Some(pid));
                return true;
            }
            Ok(Ok(answer)) => self.say(format!("proxy: not ready: {}", answer.text().trim())),
            Ok(Err(_)) | Err(_) => self.say("proxy: starting".to_owned()),
        }
        false
    }

    /// Finds out whether it is ready.
    pub(super) async fn look(&self) {
        if self.plan.meshed && !self.proxy_is_ready().await {
            return;
        }
        let containers = self.containers.borrow().clone();
        let complete = containers
            .iter()
            .all(|process| matches!(process.state().phase, Phase::Completed { .. }));
        let down = containers
            .iter()
            .find(|process| !matches!(process.state().phase, Phase::Running { .. }));
        let text = match down {
            Some(process) => Some(format!("{}: {}", process.name(), process.status().state)),
            None => self.missing_port(),
        };
        let ready = text.is_none();
        self.publish(ready, complete, text.unwrap_or_else(|| "ready".to_owned()));
    }

    fn missing_port(&self) -> Option<String> {
        let ports: Vec<u16> =
            self.plan.containers.iter().flat_map(|it| &it.ports).map(|port| port.number).collect();
        if ports.is_empty() {
            return None;
        }
        let addresses = match listening() {
            Ok(addresses) => addresses,
            Err(error) => {
                return Some(format!(
                    "cannot tell which ports are listened on (has this kernel inet_diag and tcp_diag?): {error}"
                ));
            }
        };
        ports.into_iter().find_map(|port| match listener(&addresses, port) {
            Listener::Reachable => None,
            Listener::LoopbackOnly => Some(format!(
                "port {port} is listened on for this workload itself only; listen on 0.0.0.0 or [::]"
            )),
            Listener::Nobody => Some(format!("waiting for port {port} to be listened on")),
        })
    }
}

const PROXY_ANSWER_WITHIN: Duration = Duration::from_secs(2);
