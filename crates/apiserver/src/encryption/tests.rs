use std::collections::HashMap;

use daemon::SystemClock;
use futures::StreamExt as _;
use parking_lot::Mutex;
use store::{Compare, Embedded, Operation, RangeRequest, Store, Txn, WatchRequest};
use tonic::{Request, Response, Status};
use wire::kms::key_management_service_server::{KeyManagementService, KeyManagementServiceServer};
use wire::kms::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
};

use super::*;

const SECRET: &str = "/registry/core/secrets/default/s";
/// 32 bytes in base64.
const ONE: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

fn configuration(providers: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers: [{providers}]\n"
    )
}

fn keys(provider: &str, keys: &[(&str, &str)]) -> String {
    let list: Vec<String> =
        keys.iter().map(|(name, secret)| format!("{{name: {name}, secret: {secret}}}")).collect();
    format!("{{{provider}: {{keys: [{}]}}}}", list.join(", "))
}

async fn encryption(providers: &str) -> Encryption {
    let rules = read(configuration(providers)).await.expect("reads");
    Encryption { path: PathBuf::new(), rules: ArcSwap::from_pointee(rules) }
}

/// A value as `stored` makes it.
fn value() -> Bytes {
    let object = api::Object::from_value(serde_json::json!({
        "metadata": {"name": "s", "namespace": "default"}, "data": {"password": "aHVudGVyMg=="},
    }))
    .expect("an object");
    stored::encode(&object, &[])
}

fn is_stale(opened: &Bytes) -> bool {
    opened[0] != value()[0]
}

#[tokio::test]
async fn every_provider_opens_what_it_sealed() {
    for provider in ["aesgcm", "aescbc", "secretbox"] {
        let one = encryption(&keys(provider, &[("one", ONE)])).await;
        let sealed = one.seal(SECRET.as_bytes(), value()).expect("seals");
        assert!(sealed.starts_with(format!("k8s:enc:{provider}:v1:one:").as_bytes()), "{provider}");
        assert!(!sealed.windows(8).any(|part| part == b"aHVudGVy"), "{provider}: nothing shows");
        assert_ne!(
            one.seal(SECRET.as_bytes(), value()).expect("seals"),
            sealed,
            "{provider}: never twice the same"
        );
        assert_eq!(one.open(SECRET.as_bytes(), sealed.clone()).await.expect("opens"), value(), "{provider}");

        // Another key first: read all the same, and marked.
        let rotated = encryption(&keys(provider, &[("two", OTHER), ("one", ONE)])).await;
        let opened = rotated.open(SECRET.as_bytes(), sealed.clone()).await.expect("opens");
        assert!(is_stale(&opened), "{provider}");
        assert_eq!(opened[1..], value()[1..], "{provider}");

        let wrong = encryption(&keys(provider, &[("one", OTHER)])).await;
        assert!(wrong.open(SECRET.as_bytes(), sealed.clone()).await.is_err_and(|error| {
            error
                .to_string()
                .starts_with(&format!("the value of {SECRET} cannot be read: k8s:enc:{provider}:v1:one"))
        }));
        for cut in [sealed.len() - 1, sealed.len() - 16, format!("k8s:enc:{provider}:v1:one:").len()] {
            assert!(
                one.open(SECRET.as_bytes(), sealed.slice(..cut)).await.is_err(),
                "{provider} cut at {cut}"
            );
        }
        if provider != "aescbc" {
            let mut damaged = sealed.to_vec();
            *damaged.last_mut().expect("bytes") ^= 1;
            assert!(one.open(SECRET.as_bytes(), damaged.into()).await.is_err(), "{provider}");
        }
        if provider == "aesgcm" {
            let elsewhere = b"/registry/core/secrets/default/t";
            assert!(one.open(elsewhere, sealed).await.is_err(), "a value is bound to its key");
        }
    }
}

#[tokio::test]
async fn plain_values_are_read_where_identity_is_named() {
    let with = encryption(&format!("{}, identity: {{}}", keys("aesgcm", &[("one", ONE)]))).await;
    let opened = with.open(SECRET.as_bytes(), value()).await.expect("opens");
    assert!(is_stale(&opened), "it is to be encrypted");
    let without = encryption(&keys("aesgcm", &[("one", ONE)])).await;
    let error = without.open(SECRET.as_bytes(), value()).await.expect_err("it is not encrypted");
    assert_eq!(error.to_string(), format!("the value of {SECRET} cannot be read: no matching prefix found"));
    // Other resources are left alone, and what is encrypted is never taken for plain.
    let map = b"/registry/core/configmaps/default/m";
    assert_eq!(with.seal(map, value()).expect("passes"), value());
    assert_eq!(with.open(map, value()).await.expect("passes"), value());
    let sealed = with.seal(SECRET.as_bytes(), value()).expect("seals");
    assert!(with.open(map, sealed).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_shows_what_was_put_and_keeps_what_was_sealed() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let config = store::Config::new(folder.path());
    let inner = Arc::new(Embedded::open(config, Arc::new(SystemClock)).await.expect("a store"));
    let one = Arc::new(encryption(&keys("aesgcm", &[("one", ONE)])).await);
    let outer = EncryptedStore::new(inner.clone(), one);
    let put = |value: Bytes| Txn {
        compare: vec![Compare::absent(SECRET)],
        success: vec![Operation::put(SECRET, value)],
        failure: vec![Operation::get(SECRET)],
    };
    let done = outer.txn(put(value())).await.expect("put");
    assert!(done.succeeded);
    let kv = |found: store::RangeResponse| found.kvs.into_iter().next().expect("a value").value;
    assert_eq!(kv(outer.range(RangeRequest::key(SECRET)).await.expect("read")), value());
    assert!(kv(inner.range(RangeRequest::key(SECRET)).await.expect("read")).starts_with(PREFIX));
    let failed = outer.txn(put(value())).await.expect("an answer");
    let store::OperationResult::Range(found) = &failed.results[0] else { panic!("{failed:?}") };
    assert_eq!(found.kvs[0].value, value());
    let mut watch = outer.watch(WatchRequest::prefix("/registry/", done.revision)).await.expect("a watch");
    let batch = watch.next().await.expect("a batch").expect("no error");
    assert_eq!(batch.events[0].kv.value, value());
    outer.close().await.expect("closes");
}

/// A key management service whose keys are a word each.
#[derive(Default)]
struct Service {
    key: Mutex<String>,
    opened: Mutex<u32>,
}

struct Plugin(Arc<Service>);

fn mixed(key: &str, bytes: &[u8]) -> Bytes {
    bytes.iter().zip(key.bytes().cycle()).map(|(byte, mask)| byte ^ mask).collect()
}

#[tonic::async_trait]
impl KeyManagementService for Plugin {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let key_id = self.0.key.lock().clone();
        Ok(Response::new(StatusResponse { version: "v2".to_owned(), healthz: "ok".to_owned(), key_id }))
    }

    async fn encrypt(&self, request: Request<EncryptRequest>) -> Result<Response<EncryptResponse>, Status> {
        let key_id = self.0.key.lock().clone();
        let ciphertext = mixed(&key_id, &request.into_inner().plaintext);
        let annotations = HashMap::from([("a.example.com".to_owned(), Bytes::from_static(b"x"))]);
        Ok(Response::new(EncryptResponse { ciphertext, key_id, annotations }))
    }

    async fn decrypt(&self, request: Request<DecryptRequest>) -> Result<Response<DecryptResponse>, Status> {
        *self.0.opened.lock() += 1;
        let request = request.into_inner();
        if request.annotations.len() != 1 {
            return Err(Status::invalid_argument("the annotations are missing"));
        }
        Ok(Response::new(DecryptResponse { plaintext: mixed(&request.key_id, &request.ciphertext) }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_wraps_the_seed() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let socket = folder.path().join("kms.sock");
    let service = Arc::new(Service { key: Mutex::new("first".to_owned()), opened: Mutex::default() });
    let listener = tokio::net::UnixListener::bind(&socket).expect("listens");
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
    let plugin = KeyManagementServiceServer::new(Plugin(Arc::clone(&service)));
    let serving = tonic::transport::Server::builder().add_service(plugin).serve_with_incoming(incoming);
    let serving = daemon::tasks::spawn("kms-plugin", async move { serving.await.expect("serves") });
    let kms = format!("kms: {{apiVersion: v2, name: k, endpoint: 'unix://{}'}}", socket.display());

    let first = encryption(&kms).await;
    let sealed = first.seal(SECRET.as_bytes(), value()).expect("seals");
    assert!(sealed.starts_with(b"k8s:enc:kms:v2:k:"));
    for _ in 0..3 {
        assert_eq!(first.open(SECRET.as_bytes(), sealed.clone()).await.expect("opens"), value());
    }
    assert_eq!(*service.opened.lock(), 0, "its own seed is known");
    assert!(first.open(b"/registry/core/secrets/default/t", sealed.clone()).await.is_err());

    // Another server, after the remote key changed: asked once, and marked.
    "second".clone_into(&mut service.key.lock());
    let second = encryption(&kms).await;
    for _ in 0..3 {
        let opened = second.open(SECRET.as_bytes(), sealed.clone()).await.expect("opens");
        assert!(is_stale(&opened));
    }
    assert_eq!(*service.opened.lock(), 1);
    serving.abort();
}
