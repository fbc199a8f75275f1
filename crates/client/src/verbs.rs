//! One request each: get, list, create, update, patch, delete, typed and
//! untyped. Nothing is retried here; a caller knows whether it may.

use std::sync::Arc;

use api::openapi::{Metadata, Resource};
use api::{Object, Reason, Status, metav1};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Code;
use tonic::codegen::InterceptedService;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::service::Interceptor;
use tonic::transport::Channel;
use wire::node::node_client::NodeClient;
use wire::objects::objects_client::ObjectsClient;
use wire::objects::{self as pb, Target};

use crate::kubeconfig::{Material, Session};
use crate::transport::{ClientFiles, grpc_channel};

/// The largest message that is taken from the server: a page, an object, or an
/// OpenAPI document.
const MAX_MESSAGE: usize = 64 << 20;

/// A client of one API server as one user. Clones share the connection.
#[derive(Clone)]
pub struct Client {
    objects: ObjectsClient<InterceptedService<Channel, Credentials>>,
    node: NodeClient<InterceptedService<Channel, Credentials>>,
    manager: std::sync::Arc<str>,
}

/// Puts the bearer token on each request.
#[derive(Clone)]
pub struct Credentials {
    token: Option<Material>,
    /// The headers that impersonate a user.
    impersonation: Arc<[(AsciiMetadataKey, AsciiMetadataValue)]>,
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        if let Some(token) = &self.token {
            let bytes = token.read().map_err(|error| tonic::Status::unauthenticated(error.to_string()))?;
            let text = String::from_utf8_lossy(&bytes);
            let mut value: AsciiMetadataValue = format!("Bearer {}", text.trim()).parse().map_err(|_| {
                tonic::Status::unauthenticated("the bearer token has characters that no header takes")
            })?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        for (name, value) in &*self.impersonation {
            request.metadata_mut().append(name.clone(), value.clone());
        }
        Ok(request)
    }
}

/// Which objects a list returns.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Empty: all namespaces.
    pub namespace: String,
    /// Query syntax; empty: all.
    pub labels: String,
    /// Query syntax; empty: all.
    pub fields: String,
    /// At most this many; 0: all.
    pub limit: u64,
    /// Where an earlier, limited list stopped.
    pub continue_token: String,
}

/// A list and the revision at which it was taken.
#[derive(Clone, Debug)]
pub struct List<K> {
    /// The objects.
    pub items: Vec<K>,
    /// The revision.
    pub revision: u64,
    /// Set where a limit cut the list.
    pub continue_token: String,
}

/// How a write is done.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Do everything but store.
    pub dry_run: bool,
    /// Refuse unknown fields instead of dropping them.
    pub strict: bool,
    /// Server-side apply: take fields over from their manager.
    pub force: bool,
}

/// How a deletion is done.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteOptions {
    /// Seconds; `None`: the kind's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// What must hold of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<metav1::Preconditions>,
    /// `Foreground`, `Background` or `Orphan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<String>,
    /// `["All"]` for a dry run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dry_run: Vec<String>,
}

impl DeleteOptions {
    /// Only if the object still has this uid.
    #[must_use]
    pub fn of_uid(uid: impl Into<String>) -> Self {
        let preconditions = metav1::Preconditions { uid: Some(uid.into()), resource_version: None };
        Self { preconditions: Some(preconditions), ..Self::default() }
    }
}

/// A patch in one of the formats.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902.
    Json(serde_json::Value),
    /// RFC 7396.
    Merge(serde_json::Value),
    /// Kubernetes' own.
    Strategic(serde_json::Value),
    /// Server-side apply.
    Apply(serde_json::Value),
}

/// The address of a typed resource.
#[must_use]
pub fn target<K: Resource>(namespace: &str, name: &str) -> Target {
    Target {
        group: K::GROUP.to_owned(),
        version: K::VERSION.to_owned(),
        resource: K::URL_PATH_SEGMENT.to_owned(),
        subresource: String::new(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// A Kubernetes status as a gRPC one.
#[must_use]
pub fn to_grpc(status: &Status) -> tonic::Status {
    let code = match status.reason {
        Reason::Unauthorized => Code::Unauthenticated,
        Reason::Forbidden => Code::PermissionDenied,
        Reason::NotFound => Code::NotFound,
        Reason::AlreadyExists => Code::AlreadyExists,
        Reason::Conflict => Code::Aborted,
        Reason::Gone | Reason::Expired => Code::OutOfRange,
        Reason::BadRequest | Reason::Invalid | Reason::NotAcceptable | Reason::UnsupportedMediaType => {
            Code::InvalidArgument
        }
        Reason::RequestEntityTooLarge | Reason::TooManyRequests => Code::ResourceExhausted,
        Reason::MethodNotAllowed => Code::Unimplemented,
        Reason::Timeout => Code::DeadlineExceeded,
        Reason::ServiceUnavailable | Reason::ServerTimeout => Code::Unavailable,
        _ => Code::Internal,
    };
    // The details carry all; the message is for people who see only gRPC.
    let message: String = status.message.chars().take(1024).collect();
    tonic::Status::with_details(code, message, status.to_bytes().into())
}

/// The Kubernetes status inside a gRPC one; transport errors become what REST
/// clients would see.
#[must_use]
pub fn of_grpc(status: &tonic::Status) -> Status {
    if !status.details().is_empty()
        && let Some(found) =
            serde_json::from_slice(status.details()).ok().as_ref().and_then(Status::from_json)
    {
        return found;
    }
    let reason = match status.code() {
        Code::Unauthenticated => Reason::Unauthorized,
        Code::PermissionDenied => Reason::Forbidden,
        Code::Unavailable => Reason::ServiceUnavailable,
        Code::DeadlineExceeded | Code::Cancelled => Reason::Timeout,
        Code::ResourceExhausted => Reason::TooManyRequests,
        Code::Unimplemented => Reason::MethodNotAllowed,
        _ => Reason::Unknown,
    };
    let mut message = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = error.source();
    }
    Status::new(reason, message)
}

fn failed(status: tonic::Status) -> Status {
    of_grpc(&status)
}

fn decode<K: DeserializeOwned>(json: &[u8]) -> Result<K, Status> {
    serde_json::from_slice(json)
        .map_err(|error| Status::internal(format!("decode the server's answer: {error}")))
}

fn encode<K: Serialize>(object: &K) -> Result<bytes::Bytes, Status> {
    serde_json::to_vec(object).map(Into::into).map_err(Status::internal)
}

impl Client {
    /// A client for a session; `manager` names the program in managed fields.
    ///
    /// # Errors
    /// A session without a CA, or a server address that is no URI.
    pub fn new(session: &Session, manager: &str) -> Result<Self, Status> {
        let Some(ca) = session.ca.clone() else {
            return Err(Status::bad_request("the kubeconfig has no certificate authority for the server"));
        };
        let files =
            ClientFiles { ca, identity: session.identity.clone(), server_name: session.server_name.clone() };
        let channel = grpc_channel(&session.server, files)
            .map_err(|error| Status::bad_request(format!("server address {:?}: {error}", session.server)))?;
        let mut impersonation = Vec::new();
        for (name, value) in session.impersonation.headers() {
            let no_header =
                || Status::bad_request(format!("cannot impersonate with the header {name}: {value:?}"));
            let key = AsciiMetadataKey::from_bytes(name.as_bytes()).map_err(|_| no_header())?;
            impersonation.push((key, value.parse().map_err(|_| no_header())?));
        }
        let credentials = Credentials { token: session.token.clone(), impersonation: impersonation.into() };
        Ok(Self::over(channel, credentials, manager))
    }

    /// A client over a channel that is there already.
    fn over(channel: Channel, credentials: Credentials, manager: &str) -> Self {
        let objects = ObjectsClient::with_interceptor(channel.clone(), credentials.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let node = NodeClient::with_interceptor(channel, credentials).max_decoding_message_size(MAX_MESSAGE);
        Self { objects, node, manager: manager.into() }
    }

    /// The object service itself, for streams and answers in other forms.
    #[must_use]
    pub fn objects(&self) -> ObjectsClient<InterceptedService<Channel, Credentials>> {
        self.objects.clone()
    }

    /// The node service as the API server passes it on: logs, exec, attach, port-forward.
    #[must_use]
    pub fn node(&self) -> NodeClient<InterceptedService<Channel, Credentials>> {
        self.node.clone()
    }

    /// The name in managed fields.
    #[must_use]
    pub fn manager(&self) -> &str {
        &self.manager
    }

    // Typed requests: thin generic shells over the untyped ones below.

    /// Reads an object.
    ///
    /// # Errors
    /// The server's status.
    pub async fn get<K: Resource + DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<K, Status> {
        decode(&self.get_json(target::<K>(namespace, name)).await?.json)
    }

    /// Reads an object that may not be there.
    ///
    /// # Errors
    /// The server's status, other than not found.
    pub async fn find<K: Resource + DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<K>, Status> {
        match self.get(namespace, name).await {
            Ok(object) => Ok(Some(object)),
            Err(status) if status.reason == Reason::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Reads objects.
    ///
    /// # Errors
    /// The server's status.
    pub async fn list<K: Resource + DeserializeOwned>(
        &self,
        options: &ListOptions,
    ) -> Result<List<K>, Status> {
        let list = self.list_json(target::<K>(&options.namespace, ""), options).await?;
        let items = list.items.iter().map(|json| decode(json)).collect::<Result<_, _>>()?;
        Ok(List { items, revision: list.revision, continue_token: list.continue_token })
    }

    /// Creates an object.
    ///
    /// # Errors
    /// The server's status.
    pub async fn create<K>(&self, object: &K) -> Result<K, Status>
    where
        K: Resource + Metadata<Ty = metav1::ObjectMeta> + Serialize + DeserializeOwned,
    {
        let target = target::<K>(object.metadata().namespace.as_deref().unwrap_or_default(), "");
        let created = self.create_json(target, encode(object)?, &WriteOptions::default()).await?;
        decode(&created.json)
    }

    /// Replaces an object; its resource version must be the newest, if given.
    ///
    /// # Errors
    /// The server's status.
    pub async fn update<K>(&self, object: &K) -> Result<K, Status>
    where
        K: Resource + Metadata<Ty = metav1::ObjectMeta> + Serialize + DeserializeOwned,
    {
        self.update_part("", object).await
    }

    /// Replaces an object's status.
    ///
    /// # Errors
    /// The server's status.
    pub async fn update_status<K>(&self, object: &K) -> Result<K, Status>
    where
        K: Resource + Metadata<Ty = metav1::ObjectMeta> + Serialize + DeserializeOwned,
    {
        self.update_part("status", object).await
    }

    async fn update_part<K>(&self, subresource: &str, object: &K) -> Result<K, Status>
    where
        K: Resource + Metadata<Ty = metav1::ObjectMeta> + Serialize + DeserializeOwned,
    {
        let metadata = object.metadata();
        let mut target = target::<K>(
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
        );
        subresource.clone_into(&mut target.subresource);
        let updated = self.update_json(target, encode(object)?, &WriteOptions::default()).await?;
        decode(&updated.json)
    }

    /// Changes an object.
    ///
    /// # Errors
    /// The server's status.
    pub async fn patch<K: Resource + DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
        patch: &Patch,
    ) -> Result<K, Status> {
        decode(&self.patch_json(target::<K>(namespace, name), patch, &WriteOptions::default()).await?.json)
    }

    /// Changes an object's status.
    ///
    /// # Errors
    /// The server's status.
    pub async fn patch_status<K: Resource + DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
        patch: &Patch,
    ) -> Result<K, Status> {
        let target = Target { subresource: "status".into(), ..target::<K>(namespace, name) };
        decode(&self.patch_json(target, patch, &WriteOptions::default()).await?.json)
    }

    /// Deletes an object, or asks for its deletion.
    ///
    /// # Errors
    /// The server's status.
    pub async fn delete<K: Resource>(
        &self,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(), Status> {
        self.delete_json(target::<K>(namespace, name), options).await.map(drop)
    }

    // Untyped requests.

    /// Reads an object's JSON.
    ///
    /// # Errors
    /// The server's status.
    pub async fn get_json(&self, target: Target) -> Result<pb::Object, Status> {
        let request = pb::GetRequest { target: Some(target), ..Default::default() };
        self.objects().get(request).await.map(tonic::Response::into_inner).map_err(failed)
    }

    /// Reads the JSON of objects.
    ///
    /// # Errors
    /// The server's status.
    pub async fn list_json(
        &self,
        target: Target,
        options: &ListOptions,
    ) -> Result<List<bytes::Bytes>, Status> {
        let request = pb::ListRequest {
            target: Some(target),
            label_selector: options.labels.clone(),
            field_selector: options.fields.clone(),
            limit: options.limit,
            continue_token: options.continue_token.clone(),
            ..Default::default()
        };
        let mut pages = self.objects().list(request).await.map_err(failed)?.into_inner();
        let mut list = List { items: Vec::new(), revision: 0, continue_token: String::new() };
        while let Some(page) = pages.message().await.map_err(failed)? {
            list.items.extend(page.items);
            list.revision = list.revision.max(page.revision);
            if !page.continue_token.is_empty() {
                list.continue_token = page.continue_token;
            }
        }
        Ok(list)
    }

    /// Creates from JSON; the target may name a subresource.
    ///
    /// # Errors
    /// The server's status.
    pub async fn create_json(
        &self,
        target: Target,
        json: bytes::Bytes,
        options: &WriteOptions,
    ) -> Result<pb::Object, Status> {
        let request = pb::CreateRequest {
            target: Some(target),
            json,
            dry_run: options.dry_run,
            field_manager: self.manager.to_string(),
            field_validation: validation(options),
        };
        self.objects().create(request).await.map(tonic::Response::into_inner).map_err(failed)
    }

    /// Replaces with JSON.
    ///
    /// # Errors
    /// The server's status.
    pub async fn update_json(
        &self,
        target: Target,
        json: bytes::Bytes,
        options: &WriteOptions,
    ) -> Result<pb::Object, Status> {
        let request = pb::UpdateRequest {
            target: Some(target),
            json,
            dry_run: options.dry_run,
            field_manager: self.manager.to_string(),
            field_validation: validation(options),
        };
        self.objects().update(request).await.map(tonic::Response::into_inner).map_err(failed)
    }

    /// Changes an object by a patch.
    ///
    /// # Errors
    /// The server's status.
    pub async fn patch_json(
        &self,
        target: Target,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<pb::Object, Status> {
        use pb::patch_request::Type;
        let (kind, body) = match patch {
            Patch::Json(body) => (Type::Json, body),
            Patch::Merge(body) => (Type::Merge, body),
            Patch::Strategic(body) => (Type::StrategicMerge, body),
            Patch::Apply(body) => (Type::Apply, body),
        };
        let request = pb::PatchRequest {
            target: Some(target),
            r#type: kind.into(),
            patch: encode(body)?,
            dry_run: options.dry_run,
            field_manager: self.manager.to_string(),
            field_validation: validation(options),
            force: options.force,
        };
        self.objects().patch(request).await.map(tonic::Response::into_inner).map_err(failed)
    }

    /// Deletes an object; the answer is the object as it is now, or a status.
    ///
    /// # Errors
    /// The server's status.
    pub async fn delete_json(&self, target: Target, options: &DeleteOptions) -> Result<pb::Object, Status> {
        let request = pb::DeleteRequest { target: Some(target), options: encode(options)? };
        self.objects().delete(request).await.map(tonic::Response::into_inner).map_err(failed)
    }

    /// Deletes the objects that match.
    ///
    /// # Errors
    /// The server's status.
    pub async fn delete_collection_json(
        &self,
        target: Target,
        labels: &str,
        fields: &str,
        options: &DeleteOptions,
    ) -> Result<pb::Object, Status> {
        let request = pb::DeleteCollectionRequest {
            target: Some(target),
            label_selector: labels.to_owned(),
            field_selector: fields.to_owned(),
            options: encode(options)?,
        };
        self.objects().delete_collection(request).await.map(tonic::Response::into_inner).map_err(failed)
    }

    /// The groups, versions and resources that the server has.
    ///
    /// # Errors
    /// The server's status.
    pub async fn discover(&self) -> Result<Object, Status> {
        let answer = self.objects().discover(pb::DiscoverRequest {}).await.map_err(failed)?.into_inner();
        Object::from_slice(&answer.json).map_err(Status::internal)
    }
}

fn validation(options: &WriteOptions) -> i32 {
    if options.strict { pb::FieldValidation::Strict.into() } else { pb::FieldValidation::Unset.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_survives_grpc() {
        let status = Status::not_found("apps", "deployments", "web");
        assert_eq!(of_grpc(&to_grpc(&status)), status);
    }

    #[test]
    fn a_transport_error_becomes_unavailable() {
        assert_eq!(of_grpc(&tonic::Status::unavailable("down")).reason, Reason::ServiceUnavailable);
    }
}
