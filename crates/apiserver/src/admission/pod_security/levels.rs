//! The levels and versions that a namespace's labels ask for (upstream:
//! `k8s.io/pod-security-admission/api`).

use std::fmt;

use api::{ErrorList, FieldError, Path};

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How strict a policy is, from loose to strict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "privileged" => Self::Privileged,
            "baseline" => Self::Baseline,
            "restricted" => Self::Restricted,
            _ => return None,
        })
    }
}

/// Of which version of Kubernetes the rules are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Version {
    #[default]
    Latest,
    /// `v1.MINOR`.
    Minor(u32),
}

impl Version {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        let digits = text.strip_prefix("v1.")?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let canonical = digits == "0" || !digits.starts_with('0');
        digits.parse().ok().filter(|_| plain && canonical).map(Self::Minor)
    }
}

/// A level in a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    pub(super) version: Version,
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(f, "{level}:latest"),
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

/// What a namespace asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    /// What is refused.
    pub(super) enforce: Standard,
    /// What is recorded.
    pub(super) audit: Standard,
    /// What clients are warned of.
    pub(super) warn: Standard,
}

impl Policy {
    /// The policy of a namespace with these labels, which is this one where they say
    /// nothing, and what is wrong with them. What cannot be read enforces the strictest
    /// level, and records and warns of nothing.
    pub(super) fn with_labels<'a>(mut self, label: impl Fn(&str) -> Option<&'a str>) -> (Self, ErrorList) {
        let mut errors = ErrorList::new();
        let policy = &mut self;
        let mut explicit = [None; 3];
        let modes = [
            ("enforce", &mut policy.enforce, Level::Restricted),
            ("audit", &mut policy.audit, Level::Privileged),
            ("warn", &mut policy.warn, Level::Privileged),
        ];
        for ((mode, standard, fallback), explicit) in modes.into_iter().zip(&mut explicit) {
            let (level_label, version_label) = (format!("{PREFIX}{mode}"), format!("{PREFIX}{mode}-version"));
            if let Some(text) = label(&level_label) {
                let level = Level::parse(text);
                *explicit = Some(level.is_some());
                standard.level = level.unwrap_or(fallback);
                if level.is_none() {
                    refuse(
                        &level_label,
                        text,
                        "must be one of privileged, baseline, restricted",
                        &mut errors,
                    );
                }
            }
            if let Some(text) = label(&version_label) {
                let version = Version::parse(text);
                standard.version = version.unwrap_or(Version::Latest);
                if version.is_none() {
                    refuse(&version_label, text, "must be \"latest\" or \"v1.x\"", &mut errors);
                }
            }
        }
        // What is enforced is warned of too, where workloads will run into it.
        let [enforce, _, warn] = explicit;
        if warn.is_none() && enforce == Some(true) && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if label("pod-security.kubernetes.io/warn-version").is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (self, errors)
    }

    /// The modes that labels set and that ask for something.
    pub(super) fn set_by<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> String {
        let is_set =
            |mode: &str| ["", "-version"].iter().any(|end| label(&format!("{PREFIX}{mode}{end}")).is_some());
        let modes = [("enforce", self.enforce), ("audit", self.audit), ("warn", self.warn)];
        let set = modes.into_iter().filter(|(mode, one)| one.level != Level::Privileged && is_set(mode));
        set.map(|(mode, standard)| format!("{mode}={standard}")).collect::<Vec<_>>().join(", ")
    }

    /// Whether everything is allowed, and nothing recorded or warned of.
    pub(super) fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|one| one.level == Level::Privileged)
    }
}

fn refuse(label: &str, value: &str, detail: &str, errors: &mut ErrorList) {
    let metadata = Path::new("metadata");
    let labels = metadata.child("labels");
    errors.push(FieldError::invalid(&labels.key(label), value, detail));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(labels: &[(&str, &str)]) -> (String, usize) {
        let label = |name: &str| {
            labels.iter().find(|(key, _)| format!("{PREFIX}{key}") == name).map(|(_, value)| *value)
        };
        let (policy, errors) = Policy::default().with_labels(label);
        (format!("{} {} {}", policy.enforce, policy.audit, policy.warn), errors.len())
    }

    #[test]
    fn labels_become_policies() {
        let table: [(&[(&str, &str)], &str, usize); 7] = [
            (&[], "privileged:latest privileged:latest privileged:latest", 0),
            (
                &[("enforce", "baseline"), ("enforce-version", "v1.30")],
                "baseline:v1.30 privileged:latest baseline:v1.30",
                0,
            ),
            (
                &[("enforce", "restricted"), ("warn", "privileged")],
                "restricted:latest privileged:latest privileged:latest",
                0,
            ),
            (
                &[("enforce", "baseline"), ("warn-version", "v1.2")],
                "baseline:latest privileged:latest baseline:v1.2",
                0,
            ),
            (&[("enforce", "bad")], "restricted:latest privileged:latest privileged:latest", 1),
            (
                &[("audit", "restricted"), ("audit-version", "v1.01"), ("warn", "bad")],
                "privileged:latest restricted:latest privileged:latest",
                2,
            ),
            (&[("enforce-version", "1.2")], "privileged:latest privileged:latest privileged:latest", 1),
        ];
        for (labels, expected, errors) in table {
            assert_eq!(policy(labels), (expected.to_owned(), errors), "{labels:?}");
        }
    }
}
