//! Our table in the kernel, through the `nft` command.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::base::TABLE;
use crate::rules::{Rules, Slot, version};

/// Why the kernel could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The command cannot be run.
    #[error("run {program}")]
    Run {
        /// The command.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The command refused.
    #[error("nft refused: {0}")]
    Refused(String),
    /// Its answer is not understood.
    #[error("nft's answer is not JSON")]
    Answer(#[source] serde_json::Error),
}

/// Runs `nft`, here or in a network namespace.
#[derive(Clone, Debug)]
pub struct Nft {
    command: Vec<String>,
}

impl Default for Nft {
    fn default() -> Self {
        Self { command: vec!["nft".to_owned()] }
    }
}

/// What is in the kernel, as far as names tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programmed {
    /// Chains and how many rules each has.
    pub chains: BTreeMap<String, usize>,
    /// Sets.
    pub sets: BTreeSet<String>,
    /// Verdicts by map and key.
    pub elements: BTreeMap<Slot, String>,
}

impl Nft {
    /// `nft` in a named network namespace.
    #[must_use]
    pub fn in_namespace(name: &str) -> Self {
        Self { command: ["ip", "netns", "exec", name, "nft"].map(str::to_owned).to_vec() }
    }

    /// Sends a transaction: all of it happens, or nothing.
    ///
    /// # Errors
    /// `nft` cannot be run, or refuses.
    pub async fn send(&self, script: &str) -> Result<(), KernelError> {
        self.run(&["-f", "-"], script).await.map(drop)
    }

    /// Reads our table; `None`: there is none, or one with another static part.
    ///
    /// # Errors
    /// `nft` cannot be run or understood.
    pub async fn read(&self) -> Result<Option<Programmed>, KernelError> {
        let mut arguments = vec!["-j", "list", "table"];
        arguments.extend(TABLE.split(' '));
        let text = match self.run(&arguments, "").await {
            Ok(text) => text,
            Err(KernelError::Refused(why)) if why.contains("No such file") => return Ok(None),
            Err(error) => return Err(error),
        };
        let value: Value = serde_json::from_slice(&text).map_err(KernelError::Answer)?;
        Ok(Some(parse(&value)).filter(|programmed| programmed.chains.contains_key(&version())))
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Result<Vec<u8>, KernelError> {
        let failed = |source| KernelError::Run { program: self.command.join(" "), source };
        let mut child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let mut stdin = child.stdin.take();
        let feed = async move {
            if let Some(stdin) = &mut stdin {
                stdin.write_all(input.as_bytes()).await?;
            }
            Ok::<_, std::io::Error>(())
        };
        let (fed, output) = tokio::join!(feed, child.wait_with_output());
        let output = output.map_err(failed)?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).lines().take(4).collect::<Vec<_>>().join("; ");
            return Err(KernelError::Refused(why));
        }
        fed.map_err(failed)?;
        Ok(output.stdout)
    }
}

impl Programmed {
    /// Whether the kernel holds exactly these rules.
    #[must_use]
    pub fn is(&self, rules: &Rules) -> bool {
        let chains = rules.chains.iter().map(|(name, lines)| (name.clone(), lines.len()));
        let mut expected: BTreeMap<String, usize> = chains.collect();
        expected.extend(base_chains());
        self.chains == expected && self.elements == rules.elements && self.sets.iter().eq(rules.sets.keys())
    }
}

/// The static part's chains and how many rules each has.
fn base_chains() -> BTreeMap<String, usize> {
    let mut chains = BTreeMap::from([(version(), 0)]);
    let mut current = None;
    for line in crate::base::BASE.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("chain ") {
            current = Some(name.trim_end_matches(" {").to_owned());
            chains.insert(current.clone().unwrap_or_default(), 0);
        } else if line == "}" {
            current = None;
        } else if let Some(count) = current.as_ref().and_then(|name| chains.get_mut(name)) {
            *count += usize::from(!line.starts_with("type "));
        }
    }
    chains
}

fn parse(answer: &Value) -> Programmed {
    let mut programmed = Programmed::default();
    for item in answer["nftables"].as_array().into_iter().flatten() {
        let name = |item: &Value| item["name"].as_str().unwrap_or_default().to_owned();
        if let Some(chain) = item.get("chain") {
            programmed.chains.entry(name(chain)).or_default();
        } else if let Some(rule) = item.get("rule") {
            *programmed.chains.entry(rule["chain"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        } else if let Some(set) = item.get("set") {
            programmed.sets.insert(name(set));
        } else if let Some(map) = item.get("map") {
            for element in map["elem"].as_array().into_iter().flatten() {
                let parts = element[0]["concat"].as_array().map(Vec::as_slice).unwrap_or_default();
                let mut parts: Vec<String> = parts.iter().map(text).collect();
                if let Some(protocol) = parts.first_mut() {
                    *protocol = protocol_name(protocol).to_owned();
                }
                programmed.elements.insert((name(map), parts.join(" . ")), verdict(&element[1]));
            }
        }
    }
    programmed
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Without /etc/protocols nft prints numbers.
fn protocol_name(text: &str) -> &str {
    match text {
        "6" => "tcp",
        "17" => "udp",
        "132" => "sctp",
        other => other,
    }
}

fn verdict(value: &Value) -> String {
    match value["goto"]["target"].as_str() {
        Some(chain) => format!("goto {chain}"),
        None => value.as_object().and_then(|map| map.keys().next().cloned()).unwrap_or_default(),
    }
}
