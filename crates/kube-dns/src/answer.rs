//! The answer to a question about the cluster: pure. Follows the Kubernetes DNS
//! specification, version 1.1.0; where that is silent, what CoreDNS does.

use std::net::IpAddr;
use std::str::FromStr as _;

use api::types::core::v1::Service;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::zone::{Zone, addresses, is_headless, labels};

/// The version of the specification.
const VERSION: &str = "1.1.0";
/// How long an answer may be kept, seconds.
const TTL: u32 = 5;
/// How long it may be kept that there is nothing, seconds.
const NEGATIVE_TTL: u32 = 5;
/// How long the version may be kept, seconds.
const VERSION_TTL: u32 = 30;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The name.
    pub name: Name,
    /// The type of records.
    pub kind: RecordType,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Success, or no such name.
    pub code: ResponseCode,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// The start of authority, where there is nothing.
    pub authorities: Vec<Record>,
    /// What will be asked next.
    pub additionals: Vec<Record>,
    /// A name outside the cluster that must be looked up to complete the answer.
    pub chase: Option<Name>,
}

/// Answers a question; `None`: it is not about the cluster.
#[must_use]
pub fn answer(question: &Question, zone: &Zone) -> Option<Answer> {
    let name = labels(&question.name.to_ascii());
    if let Some(address) = reverse_address(&question.name) {
        return reverse(question, zone, address);
    }
    let below = name.strip_suffix(zone.domain.as_slice())?;
    let found = Lookup { question, zone }.find(below);
    let mut answer = Answer {
        code: ResponseCode::NoError,
        answers: Vec::new(),
        authorities: Vec::new(),
        additionals: Vec::new(),
        chase: None,
    };
    match found {
        Found::Nothing => answer.code = ResponseCode::NXDomain,
        Found::Records { answers, additionals } => {
            (answer.answers, answer.additionals) = (answers, additionals)
        }
        Found::Alias(target) => {
            answer.answers.push(record(&question.name, TTL, RData::CNAME(CNAME(target.clone()))));
            if question.kind != RecordType::CNAME {
                answer.chase = Some(target);
            }
        }
    }
    if answer.answers.is_empty() {
        answer.authorities.extend(authority(zone));
    }
    Some(answer)
}

enum Found {
    /// No such name.
    Nothing,
    /// The name is there; records of the type may not be.
    Records { answers: Vec<Record>, additionals: Vec<Record> },
    /// Another name.
    Alias(Name),
}

impl Found {
    const fn no_records() -> Self {
        Self::Records { answers: Vec::new(), additionals: Vec::new() }
    }
}

struct Lookup<'a> {
    question: &'a Question,
    zone: &'a Zone,
}

impl Lookup<'_> {
    fn find(&self, below: &[String]) -> Found {
        let parts: Vec<&str> = below.iter().map(String::as_str).collect();
        match parts.as_slice() {
            [] => self.apex(),
            ["dns-version"] => {
                let text = RData::TXT(TXT::new(vec![VERSION.to_owned()]));
                self.only(RecordType::TXT, VERSION_TTL, text)
            }
            ["svc" | "pod"] => Found::no_records(),
            [namespace, "svc" | "pod"] => self.in_namespace(namespace, Found::no_records),
            [address, namespace, "pod"] => match pod_address(address) {
                Some(address) => self.in_namespace(namespace, || self.addresses([address])),
                None => Found::Nothing,
            },
            [service, namespace, "svc"] => match self.zone.services.get(namespace, service) {
                Some(found) => self.service(&found, namespace, service),
                None => Found::Nothing,
            },
            [endpoint, service, namespace, "svc"] => self.endpoint(endpoint, service, namespace),
            [port, protocol, service, namespace, "svc"] => self.port(port, protocol, service, namespace),
            _ => Found::Nothing,
        }
    }

    fn apex(&self) -> Found {
        match self.question.kind {
            RecordType::SOA => Found::Records { answers: authority(self.zone), additionals: Vec::new() },
            RecordType::NS => match self.name("ns.dns") {
                Some(server) => self.only(RecordType::NS, TTL, RData::NS(NS(server))),
                None => Found::no_records(),
            },
            _ => Found::no_records(),
        }
    }

    fn in_namespace(&self, namespace: &str, found: impl FnOnce() -> Found) -> Found {
        if self.zone.namespaces.get("", namespace).is_some() { found() } else { Found::Nothing }
    }

    fn service(&self, object: &Service, namespace: &str, service: &str) -> Found {
        if let Some(target) = external_name(object) {
            return Name::from_str(&format!("{target}.")).map_or(Found::Nothing, Found::Alias);
        }
        if self.question.kind == RecordType::SRV {
            return self.services(object, namespace, service, |_, _| true);
        }
        if is_headless(object) {
            let endpoints = self.zone.endpoints(namespace, service);
            if endpoints.is_empty() {
                return Found::Nothing;
            }
            return self.addresses(endpoints.into_iter().map(|endpoint| endpoint.address));
        }
        self.addresses(addresses(object))
    }

    fn endpoint(&self, label: &str, service: &str, namespace: &str) -> Found {
        let Some(object) = self.zone.services.get(namespace, service) else { return Found::Nothing };
        if !is_headless(&object) {
            return Found::Nothing;
        }
        let endpoints = self.zone.endpoints(namespace, service);
        let mut found = endpoints.into_iter().filter(|endpoint| endpoint.label == label).peekable();
        if found.peek().is_none() {
            return Found::Nothing;
        }
        self.addresses(found.map(|endpoint| endpoint.address))
    }

    fn port(&self, port: &str, protocol: &str, service: &str, namespace: &str) -> Found {
        let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
            return Found::Nothing;
        };
        let Some(object) = self.zone.services.get(namespace, service) else { return Found::Nothing };
        let matches = |name: &str, of: &str| name == port && of == protocol;
        match self.services(&object, namespace, service, matches) {
            Found::Records { answers, .. } if answers.is_empty() => Found::Nothing,
            found if matches!(self.question.kind, RecordType::SRV | RecordType::ANY) => found,
            Found::Records { .. } => Found::no_records(),
            other => other,
        }
    }

    /// Service records of the ports that match by name and protocol.
    fn services(
        &self,
        object: &Service,
        namespace: &str,
        service: &str,
        matches: impl Fn(&str, &str) -> bool,
    ) -> Found {
        let own = format!("{service}.{namespace}.svc");
        let mut targets: Vec<(String, u16, IpAddr)> = Vec::new();
        if is_headless(object) {
            for endpoint in self.zone.endpoints(namespace, service) {
                let ports = endpoint.ports.iter().filter(|(name, protocol, _)| matches(name, protocol));
                let target = format!("{}.{own}", endpoint.label);
                targets.extend(ports.map(|(_, _, number)| (target.clone(), *number, endpoint.address)));
            }
        } else {
            for port in object.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
                let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
                if !matches(port.name.as_deref().unwrap_or_default(), &protocol) {
                    continue;
                }
                let number = u16::try_from(port.port).unwrap_or(0);
                targets.extend(addresses(object).into_iter().map(|address| (own.clone(), number, address)));
            }
        }
        let mut ends: Vec<(&str, u16)> =
            targets.iter().map(|(target, port, _)| (target.as_str(), *port)).collect();
        ends.sort_unstable();
        ends.dedup();
        let weight = u16::try_from(100 / ends.len().max(1)).unwrap_or(0).max(1);
        let answers = ends.into_iter().filter_map(|(target, port)| {
            let data = RData::SRV(SRV::new(0, weight, port, self.name(target)?));
            Some(record(&self.question.name, TTL, data))
        });
        let answers = answers.collect();
        let mut additionals: Vec<Record> = targets
            .iter()
            .filter_map(|(target, _, address)| Some(record(&self.name(target)?, TTL, address_data(*address))))
            .collect();
        additionals.dedup();
        Found::Records { answers, additionals }
    }

    fn addresses(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Found {
        let wanted = |address: &IpAddr| match self.question.kind {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            RecordType::ANY => true,
            _ => false,
        };
        let records = addresses.into_iter().filter(wanted);
        let answers =
            records.map(|address| record(&self.question.name, TTL, address_data(address))).collect();
        Found::Records { answers, additionals: Vec::new() }
    }

    fn only(&self, kind: RecordType, ttl: u32, data: RData) -> Found {
        if self.question.kind == kind || self.question.kind == RecordType::ANY {
            Found::Records { answers: vec![record(&self.question.name, ttl, data)], additionals: Vec::new() }
        } else {
            Found::no_records()
        }
    }

    fn name(&self, below: &str) -> Option<Name> {
        full_name(self.zone, below)
    }
}

fn external_name(service: &Service) -> Option<String> {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() == Some("ExternalName"))?;
    Some(spec.external_name.as_deref()?.trim_end_matches('.').to_owned())
}

/// `10-0-0-1` or `fd00--1`.
fn pod_address(label: &str) -> Option<IpAddr> {
    label.replace('-', ".").parse().or_else(|_| label.replace('-', ":").parse()).ok()
}

/// The address of a complete name below `in-addr.arpa` or `ip6.arpa`.
fn reverse_address(name: &Name) -> Option<IpAddr> {
    let range = name.parse_arpa_name().ok()?;
    (range.prefix_len() == range.max_prefix_len()).then(|| range.addr())
}

fn reverse(question: &Question, zone: &Zone, address: IpAddr) -> Option<Answer> {
    let names = zone.names_of(address);
    if names.is_empty() {
        return None;
    }
    let wanted = matches!(question.kind, RecordType::PTR | RecordType::ANY);
    let names = names.iter().filter(|_| wanted).filter_map(|name| full_name(zone, name));
    let answers: Vec<Record> = names.map(|name| record(&question.name, TTL, RData::PTR(PTR(name)))).collect();
    let authorities = if answers.is_empty() { authority(zone) } else { Vec::new() };
    Some(Answer { code: ResponseCode::NoError, answers, authorities, additionals: Vec::new(), chase: None })
}

fn full_name(zone: &Zone, below: &str) -> Option<Name> {
    Name::from_ascii(format!("{below}.{}.", zone.domain.join("."))).ok()
}

fn authority(zone: &Zone) -> Vec<Record> {
    let apex = Name::from_ascii(format!("{}.", zone.domain.join(".")));
    let (Ok(apex), Some(server), Some(mailbox)) =
        (apex, full_name(zone, "ns.dns"), full_name(zone, "hostmaster"))
    else {
        return Vec::new();
    };
    // Grows with every change, as a serial number should.
    let serial = u32::try_from(zone.services.revision().max(zone.slices.revision()) & u64::from(u32::MAX))
        .unwrap_or(0);
    let data = RData::SOA(SOA::new(server, mailbox, serial, 7200, 1800, 86_400, NEGATIVE_TTL));
    vec![record(&apex, NEGATIVE_TTL, data)]
}

fn record(name: &Name, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name.clone(), ttl, data)
}

const fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
pub(crate) mod tests;
