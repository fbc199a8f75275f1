//! What goes wrong in a command, in the words that kubectl uses for it.

use std::fmt;

use api::{Reason, Status};

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Error {
    /// The server refused.
    Server {
        /// What was being done, such as `error when creating "f.yaml"`; may be empty.
        doing: String,
        /// The server's answer.
        status: Status,
    },
    /// The command line, a file, or the cluster's state does not allow it.
    Said(String),
    /// Several, one line each.
    Many(Vec<Error>),
    /// A remote command ended with this code.
    Ended(u8),
    /// All is said already; only the exit code is left.
    Exit(u8),
}

impl Error {
    pub(crate) fn said(text: impl Into<String>) -> Self {
        Self::Said(text.into())
    }

    /// Adds what was being done to a server's answer.
    pub(crate) fn while_doing(self, what: impl Into<String>) -> Self {
        match self {
            Self::Server { status, .. } => Self::Server { doing: what.into(), status },
            other => other,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Server { status, .. } if status.reason == Reason::NotFound)
    }

    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Server { status, .. } if status.reason == Reason::Conflict)
    }

    pub(crate) const fn code(&self) -> u8 {
        match self {
            Self::Ended(code) | Self::Exit(code) => *code,
            _ => 1,
        }
    }

    /// Nothing, the only failure, or all of them.
    pub(crate) fn of_all(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Many(errors)),
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Server { doing: String::new(), status }
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        client::of_grpc(&status).into()
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::Exit(1)
        } else {
            Self::Said(error.to_string())
        }
    }
}

impl From<api::jsonpath::BadPath> for Error {
    fn from(error: api::jsonpath::BadPath) -> Self {
        Self::said(error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Said(format!("unable to decode: {error}"))
    }
}

impl From<client::kubeconfig::KubeconfigError> for Error {
    fn from(error: client::kubeconfig::KubeconfigError) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self::Said(text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { doing, status } => write_status(f, doing, status),
            Self::Said(text) => write!(f, "error: {text}"),
            Self::Many(errors) => {
                for (index, error) in errors.iter().enumerate() {
                    if index > 0 {
                        writeln!(f)?;
                    }
                    write!(f, "{error}")?;
                }
                Ok(())
            }
            Self::Ended(code) => write!(f, "command terminated with exit code {code}"),
            Self::Exit(_) => Ok(()),
        }
    }
}

fn write_status(f: &mut fmt::Formatter<'_>, doing: &str, status: &Status) -> fmt::Result {
    let details = status.details.as_deref();
    match (status.reason, details) {
        (Reason::Unauthorized, _) => {
            write!(f, "error: You must be logged in to the server ({})", status.message)
        }
        (Reason::Invalid, Some(details)) if !details.causes.is_empty() => {
            write!(f, "The {} {:?} is invalid", details.kind, details.name)?;
            let line = |cause: &api::status::Cause| {
                if cause.field.is_empty() {
                    cause.message.clone()
                } else {
                    format!("{}: {}", cause.field, cause.message)
                }
            };
            match details.causes.as_slice() {
                [only] => write!(f, ": {}", line(only)),
                several => {
                    writeln!(f, ": ")?;
                    let lines: Vec<_> = several.iter().map(|cause| format!("* {}", line(cause))).collect();
                    f.write_str(&lines.join("\n"))
                }
            }
        }
        (Reason::ServiceUnavailable, None) if status.message.contains("refused") => {
            let server = status.message.split("connect to ").nth(1).and_then(|rest| rest.split(": ").next());
            write!(
                f,
                "The connection to the server {} was refused - did you specify the right host or port?",
                server.unwrap_or_default()
            )
        }
        _ => {
            f.write_str("Error from server")?;
            if status.reason != Reason::Unknown {
                write!(f, " ({})", status.reason.as_str())?;
            }
            if doing.is_empty() {
                write!(f, ": {}", status.message)
            } else {
                write!(f, ": {doing}: {}", status.message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_kubectls() {
        let missing = Error::from(Status::not_found("", "pods", "x"));
        assert_eq!(missing.to_string(), r#"Error from server (NotFound): pods "x" not found"#);
        assert_eq!(
            missing.while_doing(r#"error when deleting "f""#).to_string(),
            r#"Error from server (NotFound): error when deleting "f": pods "x" not found"#
        );
        assert_eq!(
            Error::from(Status::unauthorized()).to_string(),
            "error: You must be logged in to the server (Unauthorized)"
        );
        let path = api::Path::new("spec");
        let invalid = Status::invalid("", "Pod", "p", &[api::FieldError::required(&path.child("x"), "say")]);
        assert_eq!(
            Error::from(invalid).to_string(),
            r#"The Pod "p" is invalid: spec.x: Required value: say"#
        );
    }
}
