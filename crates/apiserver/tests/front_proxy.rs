//! Front proxies say who asks; nobody else does.

use std::sync::Arc;

use daemon::{Clock as _, SystemClock};
use http::Method;
use kubeadm::pki::{Authority, FRONT_PROXY_CLIENT, Folder, Subject};
use serde_json::{Value, json};
use testkit::{ControlPlane, Rest};

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const JANE: [(&str, &str); 6] = [
    ("x-remote-user", "jane"),
    ("x-remote-uid", "7"),
    ("x-remote-group", "devs"),
    ("x-remote-group", "ops"),
    ("x-remote-extra-example.org%2fteam", "blue"),
    ("x-remote-extra-example.org%2fteam", "red"),
];

fn by(plane: &ControlPlane, authority: &Authority, name: &str, token: Option<&str>) -> Rest {
    let pair =
        authority.issue(&Subject::client(name, &["system:masters"]), SystemClock.now()).expect("signs");
    Rest::new(&plane.session_with(Some(pair), token)).expect("client")
}

async fn who(client: &Rest, headers: &[(&str, &str)]) -> Result<Value, u16> {
    let all: Vec<_> = [("content-type", "application/json")].iter().chain(headers).copied().collect();
    let body = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"});
    let answer = client.send(Method::POST, REVIEWS, &all, body.to_string()).await.expect("answers");
    if answer.code == 201 { Ok(answer.json()["status"]["userInfo"].clone()) } else { Err(answer.code) }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_through_a_front_proxy_is_whom_it_names() {
    let plane = ControlPlane::start().await.expect("starts");
    let proxies = Folder::new(plane.folder().join("pki")).front_proxy_authority(SystemClock.now());
    let proxies = Arc::new(proxies.expect("an authority"));
    let proxy = by(&plane, &proxies, FRONT_PROXY_CLIENT, None);
    let jane = json!({"username": "jane", "uid": "7",
        "groups": ["devs", "ops", "system:authenticated"],
        "extra": {"example.org/team": ["blue", "red"]}});
    assert_eq!(who(&proxy, &JANE).await, Ok(jane));
    // What jane may do counts, not what the proxy's certificate says.
    let maps = "/api/v1/namespaces/default/configmaps";
    assert_eq!(proxy.send(Method::GET, maps, &JANE, "").await.expect("answers").code, 403);
    // One who names nobody is nobody here, whatever its certificate says; a token may say who it is.
    assert_eq!(who(&proxy, &[]).await, Err(401));
    assert_eq!(who(&proxy, &[("x-remote-user", "")]).await, Err(401));

    // The name must be among the allowed ones, the authority the right one.
    assert_eq!(who(&by(&plane, &proxies, "somebody", None), &JANE).await, Err(401));
    let admin = who(&by(&plane, plane.authority(), FRONT_PROXY_CLIENT, None), &JANE).await.expect("a user");
    assert_eq!(admin["username"], FRONT_PROXY_CLIENT, "the headers are nothing to others");
    let nobody = Rest::new(&plane.session_with(None, None)).expect("client");
    assert_eq!(who(&nobody, &JANE).await, Err(403), "still nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_may_have_other_names() {
    let flags = ["username-headers=X-A,X-B", "group-headers=X-Groups", "extra-headers-prefix=X-More-"];
    let flags = flags.iter().map(|flag| format!("--requestheader-{flag}")).collect();
    let plane = ControlPlane::start_with(|_| flags).await.expect("starts");
    let proxies = Folder::new(plane.folder().join("pki")).front_proxy_authority(SystemClock.now());
    let proxy = by(&plane, &proxies.expect("an authority"), FRONT_PROXY_CLIENT, None);
    let said = [("x-b", "bob"), ("x-groups", "g"), ("x-more-k", "v"), ("x-remote-user", "jane")];
    let bob = json!({"username": "bob", "groups": ["g", "system:authenticated"], "extra": {"k": ["v"]}});
    assert_eq!(who(&proxy, &said).await, Ok(bob));
    assert_eq!(who(&proxy, &JANE).await, Err(401));
    let admin = plane.rest().expect("client");
    let map = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let told = admin.get(map).await.expect("answers").json();
    assert_eq!(told["data"]["requestheader-username-headers"], "[\"X-A\",\"X-B\"]");
}
