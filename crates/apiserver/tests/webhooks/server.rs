//! A webhook server over real TLS, whose answers are a function of what it is asked.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use daemon::server::{Limits, Peer, Service, serve};
use daemon::tls::{ServerFiles, ServerTls};
use daemon::{Clock as _, Shutdown, SystemClock};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use kubeadm::pki::{Folder, Subject};
use parking_lot::Mutex;
use serde_json::{Value, json};

type Judge = dyn Fn(&str, &Value) -> Value + Send + Sync;

/// A webhook server: what it answers is a function of the path and the request.
pub(crate) struct Hook {
    judge: Box<Judge>,
    pub(crate) asked: Mutex<Vec<(String, Value)>>,
}

impl Service for Hook {
    type Body = Full<Bytes>;

    async fn answer(self: Arc<Self>, request: Request<Incoming>, _peer: Arc<Peer>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let review: Value = serde_json::from_slice(&body).expect("JSON");
        let asked = &review["request"];
        self.asked.lock().push((path.clone(), asked.clone()));
        if path == "/broken" {
            return Response::builder().status(500).body(Full::new("broken".into())).expect("an answer");
        }
        let mut response = (self.judge)(&path, asked);
        response["uid"] = asked["uid"].clone();
        let review =
            json!({"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response});
        Response::new(Full::new(review.to_string().into()))
    }
}

pub(crate) struct Server {
    port: u16,
    pub(crate) ca: String,
    pub(crate) hook: Arc<Hook>,
    shutdown: Shutdown,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

impl Server {
    pub(crate) async fn start(judge: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> Self {
        use base64::Engine as _;
        daemon::tls::install_crypto();
        let folder = tempfile::tempdir().expect("temporary folder");
        let tls = credentials(folder.path());
        let ca = std::fs::read(folder.path().join("ca.crt")).expect("the CA");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let port = listener.local_addr().expect("address").port();
        let hook = Arc::new(Hook { judge: Box::new(judge), asked: Mutex::default() });
        let shutdown = Shutdown::default();
        let serving = serve(listener, tls, Limits::default(), Arc::clone(&hook), shutdown.clone());
        daemon::tasks::spawn("hook", serving);
        let ca = base64::engine::general_purpose::STANDARD.encode(ca);
        Self { port, ca, hook, shutdown, _folder: folder }
    }

    /// How a client reaches a path of it.
    pub(crate) fn client_config(&self, path: &str) -> Value {
        json!({"url": format!("https://127.0.0.1:{}{path}", self.port), "caBundle": self.ca})
    }
}

fn credentials(folder: &Path) -> Arc<ServerTls> {
    let now = SystemClock.now();
    let pki = Folder::new(folder);
    let authority = pki.authority(now).expect("an authority");
    pki.ensure("hook", &authority, &Subject::server("hook", vec!["127.0.0.1".to_owned()]), now)
        .expect("a pair");
    ServerTls::load(ServerFiles {
        certificate: folder.join("hook.crt"),
        key: folder.join("hook.key"),
        client_ca: None,
        front_proxy_ca: None,
    })
    .expect("loads")
}
