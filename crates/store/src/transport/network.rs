//! Members in one process, with a network that tests can cut.

use super::{Inbound, Outgoing, Transport};
use crate::MemberId;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Connects members in one process.
#[derive(Clone, Debug, Default)]
pub struct Network {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    members: HashMap<MemberId, Inbound>,
    cut_off: HashSet<MemberId>,
}

struct Port {
    network: Network,
    member: MemberId,
}

impl Network {
    /// The transport for one member.
    pub fn transport(&self, member: MemberId) -> Arc<dyn Transport> {
        Arc::new(Port { network: self.clone(), member })
    }

    /// Cuts a member off from all others, or connects it again.
    pub fn set_cut_off(&self, member: MemberId, is_cut_off: bool) {
        let mut state = self.state.lock();
        if is_cut_off {
            state.cut_off.insert(member);
        } else {
            state.cut_off.remove(&member);
        }
    }
}

impl Transport for Port {
    fn send(&self, message: Outgoing) {
        let (sender, receiver) = {
            let state = self.network.state.lock();
            let is_cut = state.cut_off.contains(&self.member) || state.cut_off.contains(&message.to);
            let receiver = state.members.get(&message.to).filter(|_| !is_cut).cloned();
            (state.members.get(&self.member).cloned(), receiver)
        };
        let is_delivered = receiver.is_some_and(|receiver| receiver.deliver(&message.message));
        let Some(sender) = sender else { return };
        if !is_delivered {
            sender.unreachable(message.to);
        }
        if message.is_snapshot {
            sender.snapshot_sent(message.to, is_delivered);
        }
    }

    fn attach(&self, inbound: Inbound) {
        self.network.state.lock().members.insert(self.member, inbound);
    }
}
