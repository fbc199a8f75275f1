//! `Accept` and `Content-Type`: which encoding and which shape.

use api::{Reason, Status};
use http::{HeaderMap, header};

use super::protobuf;
use crate::openapi::wire;
use crate::registry::MediaType;

const ACCEPTED: &str = "only the following media types are accepted: application/json, application/yaml";

/// What an answer is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// The object as it is.
    #[default]
    Object,
    /// `meta.k8s.io` `Table`.
    Table,
    /// `meta.k8s.io` `PartialObjectMetadata`, or the list of it.
    Metadata,
    /// `apidiscovery.k8s.io` `APIGroupDiscoveryList`.
    Discovery,
}

/// What the client accepts, of what the server has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accept {
    /// The encoding.
    pub media: MediaType,
    /// What it is made of.
    pub form: Form,
    /// Whether large answers may be compressed.
    pub gzip: bool,
}

/// What a request can be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Objects in any form, or discovery.
    Any,
    /// The same, of built-in kinds: they have a protobuf encoding.
    BuiltIn,
    /// Built-in objects that are never stored, as they are.
    Bare,
    /// An OpenAPI document.
    Document,
}

impl Accept {
    /// Chooses the best of what the client lists.
    ///
    /// # Errors
    /// The client accepts nothing that the server has.
    pub(crate) fn parse(headers: &HeaderMap, offer: Offer) -> Result<Self, Status> {
        let gzip = headers
            .get_all(header::ACCEPT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|one| one.trim().starts_with("gzip")));
        let mut best: Option<(Self, f32)> = None;
        let mut any = false;
        for value in headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()) {
            for range in value.split(',') {
                any = true;
                let Some((accept, quality)) = Self::one(range, offer) else { continue };
                if best.is_none_or(|(_, so_far)| quality > so_far) {
                    best = Some((accept, quality));
                }
            }
        }
        match best {
            Some((accept, _)) => Ok(Self { gzip, ..accept }),
            None if !any => Ok(Self { gzip, ..Self::default() }),
            None => Err(Status::new(
                Reason::NotAcceptable,
                match offer {
                    Offer::BuiltIn | Offer::Bare => format!("{ACCEPTED}, {}", protobuf::MEDIA_TYPE),
                    Offer::Any | Offer::Document => ACCEPTED.to_owned(),
                },
            )),
        }
    }

    fn one(range: &str, offer: Offer) -> Option<(Self, f32)> {
        let mut parts = range.split(';').map(str::trim);
        let media = match parts.next()? {
            "application/json" | "application/*" | "*/*" | "" | "text/plain" => MediaType::Json,
            "application/yaml" | "text/yaml" => MediaType::Yaml,
            protobuf::MEDIA_TYPE if matches!(offer, Offer::BuiltIn | Offer::Bare) => MediaType::Protobuf,
            wire::MEDIA_TYPE | wire::OLD_MEDIA_TYPE | wire::v2::MEDIA_TYPE | wire::v2::OLD_MEDIA_TYPE
                if offer == Offer::Document =>
            {
                MediaType::Protobuf
            }
            _ => return None,
        };
        let (mut kind, mut group, mut version, mut quality) = ("", "", "", 1.0);
        for part in parts {
            match part.split_once('=')? {
                ("as", value) => kind = value,
                ("g", value) => group = value,
                ("v", value) => version = value,
                ("q", value) => quality = value.parse().ok()?,
                _ => {}
            }
        }
        let form = match (kind, group, version) {
            ("", ..) => Form::Object,
            ("Table", "meta.k8s.io", "v1") => Form::Table,
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => Form::Metadata,
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Form::Discovery,
            _ => return None,
        };
        let is_told_in_json = media == MediaType::Protobuf && matches!(form, Form::Table | Form::Discovery);
        if is_told_in_json || (offer == Offer::Bare && form != Form::Object) {
            return None;
        }
        Some((Self { media, form, gzip: false }, quality))
    }
}

/// The encoding of a body.
///
/// # Errors
/// One that the server does not read.
pub(super) fn body_media(headers: &HeaderMap) -> Result<MediaType, Status> {
    match content_type(headers) {
        "" | "application/json" => Ok(MediaType::Json),
        "application/yaml" | "text/yaml" => Ok(MediaType::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(MediaType::Protobuf),
        other => {
            Err(unsupported(other, "application/json, application/yaml, application/vnd.kubernetes.protobuf"))
        }
    }
}

/// The media type without its parameters.
#[must_use]
pub(super) fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// The status for a body's encoding that is not read.
#[must_use]
pub(super) fn unsupported(found: &str, accepted: &str) -> Status {
    Status::new(
        Reason::UnsupportedMediaType,
        format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted} (found {found:?})"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &'static str) -> Option<Accept> {
        offered(text, Offer::Any)
    }

    fn offered(text: &'static str, offer: Offer) -> Option<Accept> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, http::HeaderValue::from_static(text));
        Accept::parse(&headers, offer).ok()
    }

    #[test]
    fn choices() {
        let json = Some(Accept::default());
        let table = Some(Accept { form: Form::Table, ..Accept::default() });
        let both = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(accept(both), json);
        let protobuf = Some(Accept { media: MediaType::Protobuf, ..Accept::default() });
        assert_eq!((offered(both, Offer::BuiltIn), offered(both, Offer::Bare)), (protobuf, protobuf));
        let as_table = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(offered(as_table, Offer::BuiltIn), None);
        assert_eq!(
            accept(
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
            ),
            table
        );
        assert_eq!(
            accept("application/json;q=0.1,application/yaml;q=0.9").map(|a| a.media),
            Some(MediaType::Yaml)
        );
        assert_eq!(accept("*/*"), json);
        assert_eq!(accept("image/png"), None);
        let as_table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!((accept(as_table), offered(as_table, Offer::Bare)), (table, None));
    }
}
