//! What extension API servers have to know in order to believe this server: the
//! config map `kube-system/extension-apiserver-authentication`.

use std::path::Path;

use anyhow::Context as _;
use api::{Object, Reason};
use resources::Part;
use serde_json::{Map, Value, json};

use super::{Gate, create};
use crate::config::Flags;
use crate::registry::{Address, Caller, UpdateOptions};

const NAME: &str = "extension-apiserver-authentication";
const NAMESPACE: &str = "kube-system";

/// Whose certificates prove who asks, and who may ask for others.
pub(crate) struct Authentication {
    data: Map<String, Value>,
}

impl Authentication {
    /// As the flags say.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn read(flags: &Flags) -> anyhow::Result<Self> {
        let mut data = Map::new();
        data.insert("client-ca-file".to_owned(), text(&flags.client_ca_file)?.into());
        let proxies = &flags.authentication.front_proxies;
        if let Some(path) = &proxies.requestheader_client_ca_file {
            data.insert("requestheader-client-ca-file".to_owned(), text(path)?.into());
            for (key, value) in [
                ("allowed-names", json!(proxies.requestheader_allowed_names)),
                ("username-headers", json!(proxies.requestheader_username_headers)),
                ("uid-headers", json!(proxies.requestheader_uid_headers)),
                ("group-headers", json!(proxies.requestheader_group_headers)),
                ("extra-headers-prefix", json!(proxies.requestheader_extra_headers_prefix)),
            ] {
                data.insert(format!("requestheader-{key}"), value.to_string().into());
            }
        }
        Ok(Self { data })
    }

    /// Makes the config map, or brings it up to date.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) async fn publish(&self, gate: &Gate) -> anyhow::Result<()> {
        let failed = || format!("publish config map {NAMESPACE}/{NAME}");
        let map = json!({"metadata": {"name": NAME, "namespace": NAMESPACE}, "data": self.data});
        match create(gate, "", "configmaps", NAMESPACE, &map).await {
            Err(status) if status.reason == Reason::AlreadyExists => {}
            other => return other.with_context(failed),
        }
        let kind = gate.registry().kinds().find("", "v1", "configmaps").with_context(failed)?;
        let address = Address { kind, namespace: NAMESPACE.to_owned(), name: NAME.to_owned() };
        let transform = |current: &Object| {
            let mut data = current.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
            data.extend(self.data.clone());
            let mut new = current.clone();
            new.set("data", data);
            Ok((new, Vec::new()))
        };
        let options = UpdateOptions::default();
        let changed =
            gate.registry().change(&Caller::server(), &address, Part::Main, &options, &transform).await;
        changed.map(drop).with_context(failed)
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
