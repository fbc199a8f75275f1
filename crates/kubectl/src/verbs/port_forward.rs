//! `port-forward`: local ports whose connections end at a pod's ports.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use api::Object;
use bytes::Bytes;
use clap::Args;
use client::Client;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use wire::node::{PodRef, PortForwardData, PortForwardStart, port_forward_data::Message};

use super::Verb;
use crate::error::Error;
use crate::kube::{Kube, parse_duration};
use crate::{output, pods, resource_builder, terminal};

#[derive(Args)]
pub(crate) struct PortForward {
    /// POD, or TYPE/NAME, and [LOCAL:]REMOTE ports
    words: Vec<String>,
    /// Local addresses to listen on; localhost is both 127.0.0.1 and ::1
    #[arg(long, value_delimiter = ',', default_value = "localhost")]
    address: Vec<String>,
    /// How long to wait until a pod is there
    #[arg(long, default_value = "1m0s")]
    pod_running_timeout: String,
}

/// A local port, 0 for any, and the pod's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Forward {
    local: u16,
    remote: u16,
}

impl Verb for PortForward {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let limit = parse_duration(&self.pod_running_timeout)?;
        let (word, ports) = match self.words.split_first() {
            Some((word, ports)) if !ports.is_empty() => (word, ports),
            _ => return Err(Error::said("TYPE/NAME and list of ports are required for port-forward")),
        };
        let (pod, service) = find(kube, word, limit).await?;
        let phase = pod.text(&["status", "phase"]);
        if phase != "Running" {
            return Err(Error::said(format!(
                "unable to forward port because pod is not running. Current status={phase}"
            )));
        }
        let forwards =
            ports.iter().map(|port| read(port, &pod, service.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let reference = pods::reference(&pod, String::new());
        let listeners = self.listen(&forwards).await?;
        let client = kube.client().await?;
        for (listener, forward) in listeners {
            client::spawn_task(accept(client.clone(), listener, forward, reference.clone()));
        }
        // Listening goes on until a signal ends it, which is no failure here.
        terminal::ended().await?;
        Ok(())
    }
}

/// The pod, and the service if that is what was named.
async fn find(kube: &Kube, word: &str, limit: Duration) -> Result<(Object, Option<Object>), Error> {
    if word.contains('/') {
        let discovery = kube.discovery().await?;
        let wanted =
            resource_builder::read_words(discovery, std::slice::from_ref(&word.to_owned()))?.remove(0);
        if wanted.resource.kind == "Service" && wanted.resource.group.is_empty() {
            let target = wanted.resource.target(&kube.namespace()?, &wanted.name.unwrap_or_default());
            let service = kube.get(target).await?;
            return Ok((pods::of_object(kube, &service, limit).await?, Some(service)));
        }
    }
    Ok((pods::of_word(kube, word, limit).await?, None))
}

/// Reads `LOCAL:REMOTE`, `:REMOTE` or `REMOTE`; a service's port is turned into
/// the pod's port behind it, and names into numbers.
fn read(text: &str, pod: &Object, service: Option<&Object>) -> Result<Forward, Error> {
    let invalid = || Error::said(format!("invalid port format '{text}'"));
    let (local, remote) = match text.split(':').collect::<Vec<_>>().as_slice() {
        [both] => (None, *both),
        [local, remote] => (Some(*local), *remote),
        _ => return Err(invalid()),
    };
    if remote.is_empty() {
        return Err(invalid());
    }
    let number = |text: &str, what: &str| {
        text.parse::<u16>()
            .map_err(|error| Error::said(format!("error parsing {what} port '{text}': {error}")))
    };
    let (own, target) = match service {
        Some(service) => behind(service, pod, remote)?,
        None => {
            let number = remote.parse().ok().or_else(|| container_port(pod, remote)).ok_or_else(|| {
                Error::said(format!("Pod '{}' does not have a named port '{remote}'", pod.name()))
            })?;
            (number, number)
        }
    };
    let local = match local {
        None => own,
        Some("") => 0,
        Some(text) => number(text, "local")?,
    };
    if target == 0 {
        return Err(Error::said("remote port must be > 0"));
    }
    Ok(Forward { local, remote: target })
}

/// A service's own port, and the pod's port behind it.
fn behind(service: &Object, pod: &Object, port: &str) -> Result<(u16, u16), Error> {
    let ports = service.at(&["spec", "ports"]).and_then(Value::as_array);
    let small = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    let wanted = port.parse::<u16>().ok();
    let found = ports.into_iter().flatten().find(|one| match wanted {
        Some(number) => small(&one["port"]) == Some(number),
        None => one["name"] == port,
    });
    let Some((found, own)) = found.and_then(|one| Some((one, small(&one["port"])?))) else {
        return Err(Error::said(match wanted {
            Some(_) => format!("Service {} does not have a service port {port}", service.name()),
            None => format!("Service '{}' does not have a named port '{port}'", service.name()),
        }));
    };
    // A service without an address leads to its pods' ports directly.
    if service.text(&["spec", "clusterIP"]) == "None" {
        return Ok((own, own));
    }
    let target = match &found["targetPort"] {
        Value::String(name) => container_port(pod, name),
        Value::Number(_) => small(&found["targetPort"]).filter(|number| *number > 0).or(Some(own)),
        _ => Some(own),
    };
    let target = target.ok_or_else(|| {
        Error::said(format!("Pod '{}' does not have a named port '{}'", pod.name(), found["targetPort"]))
    })?;
    Ok((own, target))
}

/// The number of a container's port.
fn container_port(pod: &Object, name: &str) -> Option<u16> {
    let containers = ["containers", "initContainers"]
        .iter()
        .filter_map(|field| pod.at(&["spec", field])?.as_array())
        .flatten();
    let mut ports = containers.filter_map(|one| one["ports"].as_array()).flatten();
    let port = ports.find(|port| port["name"] == name)?;
    u16::try_from(port["containerPort"].as_u64()?).ok()
}

impl PortForward {
    /// Listens on every address; one that works is enough for each port.
    async fn listen(&self, forwards: &[Forward]) -> Result<Vec<(TcpListener, Forward)>, Error> {
        let mut listeners = Vec::new();
        for forward in forwards {
            let (mut errors, mut any) = (Vec::new(), false);
            // What the first address got is asked of the others too.
            let mut local = forward.local;
            for address in self.addresses()? {
                match TcpListener::bind(SocketAddr::new(address, local)).await {
                    Ok(listener) => {
                        let at = listener.local_addr()?;
                        output::line(format!("Forwarding from {at} -> {}", forward.remote))?;
                        listeners.push((listener, Forward { local: at.port(), ..*forward }));
                        local = at.port();
                        any = true;
                    }
                    Err(error) => errors.push(format!(
                        "unable to create listener: Error listen {address}:{}: {error}",
                        forward.local
                    )),
                }
            }
            if !any {
                eprintln!(
                    "Unable to listen on port {}: Listeners failed to create with the following errors: [{}]",
                    forward.local,
                    errors.join(" ")
                );
            }
        }
        if listeners.is_empty() {
            let all: Vec<String> =
                forwards.iter().map(|one| format!("{{{} {}}}", one.local, one.remote)).collect();
            return Err(Error::said(format!(
                "unable to listen on any of the requested ports: [{}]",
                all.join(" ")
            )));
        }
        Ok(listeners)
    }

    fn addresses(&self) -> Result<Vec<IpAddr>, Error> {
        let mut found = Vec::new();
        for address in &self.address {
            if address == "localhost" {
                found.push(IpAddr::from([127, 0, 0, 1]));
                found.push(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]));
            } else {
                found.push(address.parse().map_err(|_| Error::said(format!("{address} is not a valid IP")))?);
            }
        }
        Ok(found)
    }
}

async fn accept(client: Client, listener: TcpListener, forward: Forward, pod: PodRef) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("error: accept a connection on port {}: {error}", forward.local);
                // Out of descriptors, most likely: later there may be some.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (client, pod) = (client.clone(), pod.clone());
        client::spawn_task(async move {
            let said = output::line(format!("Handling connection for {}", forward.local));
            let outcome = match said {
                Ok(()) => carry(&client, stream, forward, pod).await,
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                let Forward { local, remote } = forward;
                eprintln!("error: an error occurred forwarding {local} -> {remote}: {error}");
            }
        });
    }
}

/// Carries one connection until both directions have ended.
async fn carry(client: &Client, stream: TcpStream, forward: Forward, pod: PodRef) -> Result<(), Error> {
    let data = |message| PortForwardData { message: Some(message) };
    let (queue, messages) = mpsc::channel(16);
    let start = PortForwardStart { pod: Some(pod), port: forward.remote.into() };
    queue.send(data(Message::Start(start))).await.map_err(|error| Error::said(error.to_string()))?;
    let (mut source, mut sink) = stream.into_split();
    let upward = client::spawn_task(async move {
        let mut buffer = vec![0; 32 * 1024];
        // A connection that cannot be read any more has ended.
        while let Ok(length @ 1..) = source.read(&mut buffer).await {
            let piece = Bytes::copy_from_slice(&buffer[..length]);
            if queue.send(data(Message::Data(piece))).await.is_err() {
                return;
            }
        }
        // The other side may be gone first.
        queue.send(data(Message::Close(true))).await.ok();
        queue.closed().await;
    });
    let outcome = async {
        let mut answers = client.node().port_forward(ReceiverStream::new(messages)).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            match answer.message {
                Some(Message::Data(bytes)) => sink.write_all(&bytes).await?,
                Some(Message::Close(_)) => sink.shutdown().await?,
                Some(Message::Start(_)) | None => {}
            }
        }
        Ok(())
    };
    let outcome = outcome.await;
    upward.abort();
    outcome
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_read() {
        let object = |value| Object::from_value(value).expect("object");
        let pod = object(json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]}}));
        let mut service = object(
            json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.0.0.1", "ports": [
            {"name": "web", "port": 80, "targetPort": "http"}, {"port": 443, "targetPort": 8443}, {"port": 90}]}}),
        );
        let table = [
            ("80", None, (80, 80)),
            ("8000:80", None, (8000, 80)),
            (":80", None, (0, 80)),
            ("http", None, (8080, 8080)),
            ("80", Some(&service), (80, 8080)),
            ("9000:web", Some(&service), (9000, 8080)),
            ("443", Some(&service), (443, 8443)),
            ("90", Some(&service), (90, 90)),
        ];
        for (text, service, (local, remote)) in table {
            assert_eq!(read(text, &pod, service).expect(text), Forward { local, remote });
        }
        for bad in ["", "1:2:3", "x:80", "0", "99999"] {
            assert!(read(bad, &pod, None).is_err(), "{bad}");
        }
        assert!(read("81", &pod, Some(&service)).is_err());
        service.set_at(&["spec", "clusterIP"], "None");
        assert_eq!(read("80", &pod, Some(&service)).expect("headless"), Forward { local: 80, remote: 80 });
    }
}
