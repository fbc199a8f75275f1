//! Volumes made of API objects: config maps, secrets, facts about the pod, and
//! service account tokens, alone or projected together.

use std::collections::BTreeMap;
use std::path::Path;

use api::types::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use api::types::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use jiff::Timestamp;

use super::VolumeError;
use super::atomic::Payload;
use crate::cluster::{Cluster, ClusterError};
use crate::environment;
use crate::pod;

/// What a volume of API objects is made of.
#[derive(Clone, Debug)]
pub struct Source {
    default_mode: u32,
    parts: Vec<VolumeProjection>,
}

/// The source of a volume, with the directory name of its kind; `None` if the
/// volume is of another kind.
#[must_use]
pub fn source(volume: &Volume) -> Option<(&'static str, Source)> {
    use api::types::core::v1::{ConfigMapProjection, DownwardAPIProjection, SecretProjection};
    let mode = |mode: Option<i32>| u32::try_from(mode.unwrap_or(0o644)).unwrap_or(0o644);
    let one = |kind, default, part| Some((kind, Source { default_mode: mode(default), parts: vec![part] }));
    if let Some(map) = &volume.config_map {
        let part =
            ConfigMapProjection { name: map.name.clone(), items: map.items.clone(), optional: map.optional };
        return one(
            "configmap",
            map.default_mode,
            VolumeProjection { config_map: Some(part), ..VolumeProjection::default() },
        );
    }
    if let Some(secret) = &volume.secret {
        let part = SecretProjection {
            name: secret.secret_name.clone().unwrap_or_default(),
            items: secret.items.clone(),
            optional: secret.optional,
        };
        return one(
            "secret",
            secret.default_mode,
            VolumeProjection { secret: Some(part), ..VolumeProjection::default() },
        );
    }
    if let Some(downward) = &volume.downward_api {
        let part = DownwardAPIProjection { items: downward.items.clone() };
        return one(
            "downward-api",
            downward.default_mode,
            VolumeProjection { downward_api: Some(part), ..VolumeProjection::default() },
        );
    }
    let projected = volume.projected.as_ref()?;
    let parts = projected.sources.clone().unwrap_or_default();
    Some(("projected", Source { default_mode: mode(projected.default_mode), parts }))
}

/// The file beside a volume that says when its tokens are to be renewed.
const RENEWAL_FILE: &str = "..renew-at";

/// Whether the tokens in a volume are old, or there are none.
#[must_use]
pub fn token_needs_renewal(directory: &Path, now: Timestamp) -> bool {
    std::fs::read_to_string(directory.join(RENEWAL_FILE))
        .ok()
        .and_then(|text| text.trim().parse::<Timestamp>().ok())
        .is_none_or(|renew_at| now >= renew_at)
}

/// The files of a volume as the API has them now.
pub(super) async fn files(
    pod: &Pod,
    volume: &str,
    source: &Source,
    cluster: &dyn Cluster,
    directory: &Path,
    renew_tokens: bool,
) -> Result<BTreeMap<String, Payload>, VolumeError> {
    let namespace = pod::id(pod).namespace;
    let object = |source: ClusterError| VolumeError::Object { volume: volume.to_owned(), source };
    let unfit = |why: String| VolumeError::Unfit { volume: volume.to_owned(), why };
    let mut files = BTreeMap::new();
    let mut put = |path: &str, data: Vec<u8>, mode: u32, owner| {
        files.insert(path.to_owned(), Payload { data, mode, owner })
    };
    for part in &source.parts {
        if let Some(wanted) = &part.config_map {
            let data = match cluster.config_map(&namespace, &wanted.name).await {
                Ok(map) => {
                    let text = map
                        .data
                        .iter()
                        .flatten()
                        .map(|(key, value)| (key.clone(), value.clone().into_bytes()));
                    text.chain(
                        map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())),
                    )
                    .collect()
                }
                Err(ClusterError::NotFound { .. }) if wanted.optional == Some(true) => BTreeMap::new(),
                Err(error) => return Err(object(error)),
            };
            let chosen = choose(&data, wanted.items.as_deref(), wanted.optional, source.default_mode)
                .map_err(|key| unfit(format!("references non-existent config key: {key}")))?;
            for (path, data, mode) in chosen {
                put(&path, data, mode, None);
            }
        }
        if let Some(wanted) = &part.secret {
            let data = match cluster.secret(&namespace, &wanted.name).await {
                Ok(secret) => {
                    secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
                }
                Err(ClusterError::NotFound { .. }) if wanted.optional == Some(true) => BTreeMap::new(),
                Err(error) => return Err(object(error)),
            };
            let chosen = choose(&data, wanted.items.as_deref(), wanted.optional, source.default_mode)
                .map_err(|key| unfit(format!("references non-existent secret key: {key}")))?;
            for (path, data, mode) in chosen {
                put(&path, data, mode, None);
            }
        }
        for item in part.downward_api.iter().flat_map(|downward| downward.items.iter().flatten()) {
            let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(source.default_mode);
            put(&item.path, downward(pod, item).map_err(unfit)?.into_bytes(), mode, None);
        }
        if let Some(wanted) = &part.service_account_token {
            let token = match std::fs::read(directory.join(&wanted.path)) {
                Ok(token) if !renew_tokens => token,
                _ => fetch_token(pod, wanted, cluster, directory).await.map_err(object)?,
            };
            // The process that reads it may run as any one user.
            let user = pod::spec(pod).security_context.as_ref().and_then(|context| context.run_as_user);
            let owner = user.and_then(|user| u32::try_from(user).ok());
            put(&wanted.path, token, if owner.is_some() { 0o600 } else { source.default_mode }, owner);
        }
    }
    Ok(files)
}

/// The files that a list of items makes of an object's keys; an error is the
/// name of a missing key.
fn choose(
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    default_mode: u32,
) -> Result<Vec<(String, Vec<u8>, u32)>, String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data.iter().map(|(key, value)| (key.clone(), value.clone(), default_mode)).collect());
    };
    let mut chosen = Vec::new();
    for item in items {
        match data.get(&item.key) {
            Some(value) => {
                let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(default_mode);
                chosen.push((item.path.clone(), value.clone(), mode));
            }
            None if optional == Some(true) => {}
            None => return Err(item.key.clone()),
        }
    }
    Ok(chosen)
}

fn downward(pod: &Pod, item: &DownwardAPIVolumeFile) -> Result<String, String> {
    if let Some(field) = &item.field_ref {
        return environment::field(pod, &field.field_path, &[]);
    }
    let resource = item.resource_field_ref.as_ref().ok_or("an item needs a field or a resource")?;
    environment::resource(pod, resource.container_name.as_deref().unwrap_or_default(), resource)
}

async fn fetch_token(
    pod: &Pod,
    wanted: &ServiceAccountTokenProjection,
    cluster: &dyn Cluster,
    directory: &Path,
) -> Result<Vec<u8>, ClusterError> {
    let id = pod::id(pod);
    let account = pod::spec(pod).service_account_name.as_deref().unwrap_or("default");
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: wanted
                .audience
                .clone()
                .filter(|audience| !audience.is_empty())
                .map(|audience| vec![audience]),
            expiration_seconds: Some(wanted.expiration_seconds.unwrap_or(3600)),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(id.name.clone()),
                uid: Some(id.uid.clone()),
            }),
        }),
        ..TokenRequest::default()
    };
    let answer = cluster.token(&id.namespace, account, &request).await?;
    let status = answer.status.unwrap_or_default();
    let (Some(token), Some(expires)) = (status.token, status.expiration_timestamp) else {
        return Err(ClusterError::Other(format!(
            "token request for service account {account} was answered without a token"
        )));
    };
    let now = crate::time::now();
    // At four fifths of its life, as upstream does, and not later than a day.
    let life = expires.0.duration_since(now).as_secs().max(0);
    let renew_at = now + jiff::SignedDuration::from_secs((life * 4 / 5).min(24 * 3600));
    let io = |error: std::io::Error| ClusterError::Other(error.to_string());
    std::fs::create_dir_all(directory).map_err(io)?;
    std::fs::write(directory.join(RENEWAL_FILE), renew_at.to_string()).map_err(io)?;
    Ok(token.into_bytes())
}
