//! Debian's docker-registry on a port of its own, a way to push to it, and a
//! front that makes a connection as bad as a test wants it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use kubelet::images::store::digest;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::http::{self as little, Body};
use crate::machine::{busybox_layer, image_config, until};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry that runs until it is dropped.
pub struct Registry {
    process: Child,
    pub address: SocketAddr,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Registry {
    /// A registry over `storage`, with an `auth` section of its configuration.
    pub async fn start(storage: &Path, auth: Value) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": storage}},
            "http": {"addr": address.to_string()},
        });
        if !auth.is_null() {
            config["auth"] = auth;
        }
        let file = storage.with_extension(format!("{}.yaml", address.port()));
        std::fs::write(&file, config.to_string()).expect("write");
        let log = std::fs::File::create(file.with_extension("log")).expect("log");
        let process = Command::new("docker-registry")
            .args(["serve".as_ref(), file.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("docker-registry is installed");
        let registry = Self { process, address };
        until("the registry", async || tokio::net::TcpStream::connect(address).await.ok()).await;
        registry
    }

    async fn put(&self, path: &str, kind: &str, body: Vec<u8>) {
        let request = Request::put(path).header("content-type", kind).body(body.into()).expect("a request");
        let answer = little::send(self.address, request).await;
        assert!(answer.status().is_success(), "{path}: {} {:?}", answer.status(), answer.body());
    }

    /// Pushes a blob; gives its digest.
    pub async fn push_blob(&self, repository: &str, data: &[u8]) -> String {
        let begin = Request::post(format!("/v2/{repository}/blobs/uploads/")).body(Bytes::new());
        let answer = little::send(self.address, begin.expect("a request")).await;
        let location = answer.headers()["location"].to_str().expect("text").to_owned();
        let path = location.splitn(4, '/').nth(3).expect("a path").to_owned();
        let digest = digest(data);
        let separator = if path.contains('?') { '&' } else { '?' };
        self.put(&format!("/{path}{separator}digest={digest}"), "application/octet-stream", data.to_vec())
            .await;
        digest
    }

    /// Pushes a manifest or a list under a tag or digest.
    pub async fn push_manifest(&self, repository: &str, tag: &str, kind: &str, manifest: &Value) -> String {
        let bytes = manifest.to_string().into_bytes();
        let digest = digest(&bytes);
        let tag = if tag.is_empty() { digest.as_str() } else { tag };
        self.put(&format!("/v2/{repository}/manifests/{tag}"), kind, bytes).await;
        digest
    }

    /// Pushes an image of busybox and further layers of that many random bytes.
    pub async fn push_image(&self, repository: &str, tag: &str, extra: &[usize]) -> Pushed {
        let mut layers = vec![busybox_layer()];
        for (number, size) in extra.iter().enumerate() {
            let mut noise = vec![0; *size];
            rand::Rng::fill_bytes(&mut rand::rng(), &mut noise);
            let mut layer = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(noise.len() as u64);
            header.set_mode(0o644);
            layer.append_data(&mut header, format!("noise-{number}"), noise.as_slice()).expect("tar");
            layers.push(layer.into_inner().expect("tar"));
        }
        let mut descriptors = Vec::new();
        let mut digests = Vec::new();
        for layer in &layers {
            let digest = self.push_blob(repository, layer).await;
            descriptors.push(json!({"mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digest, "size": layer.len()}));
            digests.push(digest);
        }
        let config = image_config(&digests).to_string();
        let config_digest = self.push_blob(repository, config.as_bytes()).await;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config_digest, "size": config.len()},
            "layers": descriptors,
        });
        let digest = self.push_manifest(repository, tag, MANIFEST, &manifest).await;
        let size = manifest.to_string().len();
        Pushed { digest, size, layers: digests }
    }
}

/// An image in the registry.
pub struct Pushed {
    pub digest: String,
    pub size: usize,
    pub layers: Vec<String>,
}

/// How bad the connection is.
#[derive(Default)]
pub struct Faults {
    /// Blobs break off after so many bytes, so many times.
    pub cut: Option<(usize, u32)>,
    /// The last byte of every blob is another.
    pub corrupts: bool,
    /// Ranges are not understood.
    pub ignores_ranges: bool,
    /// Blobs do not come at all.
    pub hangs: bool,
}

/// A front before a registry.
#[derive(Clone)]
pub struct Front {
    pub address: SocketAddr,
    pub faults: Arc<Mutex<Faults>>,
    /// What was asked for: path and range.
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Front {
    pub async fn start(registry: SocketAddr) -> Self {
        let (faults, asked) = (Arc::<Mutex<Faults>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let shared = (Arc::clone(&faults), Arc::clone(&asked));
        let address = little::serve(move |request| {
            let (faults, asked) = shared.clone();
            async move { pass_on(registry, request, &faults, &asked).await }
        })
        .await;
        Self { address, faults, asked }
    }

    /// How often something was asked for whose path ends like this.
    pub fn count(&self, end: &str) -> usize {
        self.asked.lock().iter().filter(|asked| asked.contains(end)).count()
    }
}

async fn pass_on(
    registry: SocketAddr,
    request: Request<Incoming>,
    faults: &Mutex<Faults>,
    asked: &Mutex<Vec<String>>,
) -> Response<Body> {
    let (mut parts, _) = request.into_parts();
    let range =
        parts.headers.get("range").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let path = parts.uri.path().to_owned();
    asked.lock().push(format!("{path} {range}"));
    if faults.lock().ignores_ranges {
        parts.headers.remove("range");
    }
    parts.headers.remove("host");
    let is_blob = path.contains("/blobs/");
    if is_blob && faults.lock().hangs {
        std::future::pending::<()>().await;
    }
    let answer = little::send(registry, Request::from_parts(parts, Bytes::new())).await;
    let (parts, mut body) = answer.into_parts();
    let mut faults = faults.lock();
    if is_blob && faults.corrupts && !body.is_empty() {
        let mut bytes = body.to_vec();
        *bytes.last_mut().expect("not empty") ^= 1;
        body = bytes.into();
    }
    if is_blob && let Some((at, left)) = faults.cut.filter(|(at, left)| *left > 0 && *at < body.len()) {
        faults.cut = Some((at, left - 1));
        let broken = std::io::Error::other("cut by the test");
        return Response::from_parts(parts, little::pieces(vec![Ok(body.slice(..at)), Err(broken)]));
    }
    Response::from_parts(parts, little::whole(body))
}

/// A server of tokens, as registries of the big providers have them: who knows
/// the password gets a token for what he asks.
pub struct Tokens {
    pub address: SocketAddr,
    pub certificate: PathBuf,
}

impl Tokens {
    pub async fn start(dir: &Path, login: &'static str) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let signed = parameters.self_signed(&key).expect("a certificate");
        let certificate = dir.join("token.crt");
        std::fs::write(&certificate, signed.pem()).expect("write");
        let signer = jsonwebtoken::EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).expect("a key");
        let chain = {
            use base64::Engine as _;
            vec![base64::engine::general_purpose::STANDARD.encode(signed.der())]
        };
        let address = little::serve(move |request| {
            let answer = token(&request, login, &signer, &chain);
            async move { answer }
        })
        .await;
        Self { address, certificate }
    }
}

fn token(
    request: &Request<Incoming>,
    login: &str,
    signer: &jsonwebtoken::EncodingKey,
    chain: &[String],
) -> Response<Body> {
    use base64::Engine as _;
    let expected = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login));
    if request.headers().get("authorization").and_then(|value| value.to_str().ok()) != Some(expected.as_str())
    {
        let refused = json!({"details": "incorrect username or password"}).to_string();
        let answer = Response::builder().status(401).body(little::whole(refused.into()));
        return answer.expect("an answer");
    }
    let query = request.uri().query().unwrap_or_default().replace("%3A", ":").replace("%2F", "/");
    let scope = query.split('&').find_map(|pair| pair.strip_prefix("scope=")).unwrap_or_default();
    let mut parts = scope.split(':');
    let (kind, name, actions) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({
        "iss": "test", "sub": "somebody", "aud": "registry", "jti": "1",
        "iat": now, "nbf": now - 10, "exp": now + 300,
        "access": [{"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()}],
    });
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    header.x5c = Some(chain.to_vec());
    let token = jsonwebtoken::encode(&header, &claims, signer).expect("a token");
    let body = json!({"token": token, "expires_in": 300}).to_string();
    Response::new(little::whole(body.into()))
}
