//! Pulls from a real registry: names, platforms, credentials, bad connections,
//! and what a pod's status and events say of them.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::types::core::v1::Secret;
use kubelet::cluster::PodChange;
use kubelet::images::credentials::Credentials;
use kubelet::images::registry::Registries;
use kubelet::images::store::architecture;
use kubelet::images::{ImageError, Obtained, PullPolicy, Wish};
use kubelet::pod::PodId;
use kubelet::worker::task::Tools;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::machine::{Kubelet, Machine, pod, run, until};
use crate::registry_server::{Faults, Front, INDEX, MANIFEST, Registry, Tokens};

/// `user` with the password `secret`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "user:$2b$04$k3vQWvQEwBRNNA9t24mNOOt9/y4nHWaPh6KVzvK/UH08KcDQg.QWW\n";

fn secret(registry: &str, login: &str) -> Secret {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let config = json!({"auths": {registry: {"auth": encode(login)}}}).to_string();
    serde_json::from_value(json!({
        "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": encode(&config)}
    }))
    .expect("a secret")
}

fn login(registry: &str, login: &str) -> Credentials {
    Credentials::from_secrets([&secret(registry, login)])
}

async fn pull_as(
    tools: &Tools,
    image: &str,
    policy: PullPolicy,
    credentials: &Credentials,
    owner: &str,
) -> Result<Obtained, ImageError> {
    tools.images.ensure(Wish { image, policy, credentials, pod: owner }, &|| {}).await
}

async fn pull(tools: &Tools, image: &str) -> Result<Obtained, ImageError> {
    // A pod of its own each time: no back-off of another is in the way.
    let owner = uuid::Uuid::new_v4().to_string();
    pull_as(tools, image, PullPolicy::Always, &Credentials::default(), &owner).await
}

/// What containerd's own client says.
fn ctr(machine: &Machine, arguments: &[&str]) -> String {
    let output = Command::new("ctr")
        .args(["--address", &machine.path("c.sock").display().to_string(), "-n", &machine.namespace()])
        .args(arguments)
        .output()
        .expect("ctr runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn names_and_platforms(machine: &Machine) {
    let storage = machine.path("registry");
    let registry = Registry::start(&storage, Value::Null).await;
    let config = machine.path("certs.d");
    let alias = config.join("registry.example");
    std::fs::create_dir_all(&alias).expect("mkdir");
    std::fs::write(alias.join("hosts.toml"), format!("server = 'http://{}'", registry.address))
        .expect("write");
    let registries = Registries { config: Some(config), ..Registries::default() };
    let tools = machine.tools_with(&Arc::default(), registries).await;

    let ours = registry.push_image("team/app", "1", &[1000, 0, 1000]).await;
    let foreign = registry.push_image("team/app", "foreign", &[500]).await;
    let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": MANIFEST, "digest": foreign.digest, "size": foreign.size,
            "platform": {"os": "linux", "architecture": "s390x"}},
        {"mediaType": MANIFEST, "digest": ours.digest, "size": ours.size,
            "platform": {"os": "linux", "architecture": architecture()}},
    ]});
    let list_digest = registry.push_manifest("team/app", "multi", INDEX, &list).await;
    let only_foreign = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [list["manifests"][0]]});
    registry.push_manifest("team/app", "elsewhere", INDEX, &only_foreign).await;
    let at = registry.address;

    for (name, digest) in [
        (format!("{at}/team/app:1"), &ours.digest),
        (format!("{at}/team/app:multi"), &list_digest),
        (format!("{at}/team/app@{}", ours.digest), &ours.digest),
        (format!("{at}/team/app:ignored@{list_digest}"), &list_digest),
        ("registry.example/team/app:1".to_owned(), &ours.digest),
    ] {
        let obtained = pull(&tools, &name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(&obtained.image.digest, digest, "{name}");
        assert!(obtained.image.id.ends_with(&format!("/team/app@{digest}")), "{}", obtained.image.id);
        assert!(obtained.pull.is_some(), "{name}");
        assert_eq!(obtained.image.config.command, ["sh"]);
        let again = pull_as(&tools, &name, PullPolicy::IfNotPresent, &Credentials::default(), "p").await;
        assert!(again.expect("is here").pull.is_none(), "{name}");
    }
    assert!(
        !ctr(machine, &["content", "ls"]).contains(&foreign.layers[1]),
        "another machine's layers stay away"
    );

    let whole = |name: &str| format!("failed to pull and unpack image \"{at}/{name}\": ");
    for (name, expected) in [
        ("team/app:none", format!("{}{at}/team/app:none: not found", whole("team/app:none"))),
        ("nobody/nothing:1", format!("{}{at}/nobody/nothing:1: not found", whole("nobody/nothing:1"))),
        ("team/app:elsewhere", format!("no match for platform linux/{}", architecture())),
    ] {
        let error = pull(&tools, &format!("{at}/{name}")).await.expect_err(name);
        assert_eq!(error.reason(), "ErrImagePull");
        assert!(error.to_string().contains(&expected), "{name}: {error}");
    }
    let never = pull_as(&tools, &format!("{at}/a:1"), PullPolicy::Never, &Credentials::default(), "p").await;
    assert_eq!(never.expect_err("never").reason(), "ErrImageNeverPull");

    // A failure holds back the pod that met it, and no other.
    let missing = format!("{at}/team/later:1");
    let by = async |owner: &str| {
        pull_as(&tools, &missing, PullPolicy::Always, &Credentials::default(), owner).await.map(drop)
    };
    assert_eq!(by("first").await.expect_err("missing").reason(), "ErrImagePull");
    registry.push_image("team/later", "1", &[]).await;
    let Err(ImageError::BackOff { left, why, .. }) = by("first").await else { panic!("backs off") };
    assert!(left > Duration::from_secs(5) && left <= Duration::from_secs(10), "{left:?}");
    assert!(why.contains("not found"), "{why}");
    by("second").await.expect("is there now");
}

async fn credentials(machine: &Machine) {
    let storage = machine.path("registry");
    let digest = {
        let open = Registry::start(&storage, Value::Null).await;
        open.push_image("private", "1", &[]).await.digest
    };
    let htpasswd = machine.path("htpasswd");
    std::fs::write(&htpasswd, HTPASSWD).expect("write");
    let basic = Registry::start(&storage, json!({"htpasswd": {"realm": "test", "path": htpasswd}})).await;
    let tokens = Tokens::start(&machine.path(""), "user:secret").await;
    let token = Registry::start(
        &storage,
        json!({"token": {"realm": format!("http://{}/token", tokens.address), "service": "registry",
            "issuer": "test", "rootcertbundle": tokens.certificate}}),
    )
    .await;
    let tools = machine.tools_with(&Arc::default(), Registries::default()).await;
    for (kind, registry) in [("basic", &basic), ("token", &token)] {
        let at = registry.address.to_string();
        let image = format!("{at}/private:1");
        let with = async |credentials: Credentials| {
            let owner = uuid::Uuid::new_v4().to_string();
            pull_as(&tools, &image, PullPolicy::Always, &credentials, &owner).await
        };
        for (what, credentials) in [
            ("none", Credentials::default()),
            ("wrong", login(&at, "user:guess")),
            ("another registry's", login("other.example", "user:secret")),
        ] {
            let error = with(credentials).await.expect_err(what);
            assert!(error.to_string().contains("pull access denied"), "{kind}, {what}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let both = [&secret(&at, "user:guess"), &secret(&format!("{at}/private"), "user:secret")];
        for (what, credentials) in
            [("right", login(&at, "user:secret")), ("one of two", Credentials::from_secrets(both))]
        {
            let obtained = with(credentials).await.unwrap_or_else(|error| panic!("{kind}, {what}: {error}"));
            assert_eq!(obtained.image.digest, digest, "{kind}, {what}");
        }
    }
}

async fn bad_connections(machine: &Machine) {
    let registry = Registry::start(&machine.path("registry"), Value::Null).await;
    let front = Front::start(registry.address).await;
    let tools = machine.tools_with(&Arc::default(), Registries::default()).await;
    let at = front.address;

    // Interrupted, and taken up where it stopped.
    let large = registry.push_image("large", "1", &[3 << 20]).await;
    *front.faults.lock() = Faults { cut: Some((1 << 20, 3)), ..Faults::default() };
    pull(&tools, &format!("{at}/large:1")).await.expect("heals");
    let asked = front.asked.lock().clone();
    assert!(asked.iter().any(|asked| asked.ends_with("bytes=1048576-")), "{asked:?}");

    // The same from a server that knows no ranges.
    registry.push_image("other", "1", &[3 << 20]).await;
    *front.faults.lock() = Faults { cut: Some((1 << 20, 2)), ignores_ranges: true, ..Faults::default() };
    pull(&tools, &format!("{at}/other:1")).await.expect("heals");

    // It never heals: the pull fails, with nothing left of it.
    let broken = registry.push_image("broken", "1", &[2 << 20]).await;
    *front.faults.lock() = Faults { cut: Some((1000, u32::MAX)), ..Faults::default() };
    let error = pull(&tools, &format!("{at}/broken:1")).await.expect_err("broken");
    assert_eq!(error.reason(), "ErrImagePull");
    assert_nothing_of(machine, &broken.layers[1], "broken").await;

    // Wrong bytes are refused, and not kept.
    let corrupt = registry.push_image("corrupt", "1", &[2 << 20]).await;
    *front.faults.lock() = Faults { corrupts: true, ..Faults::default() };
    let error = pull(&tools, &format!("{at}/corrupt:1")).await.expect_err("corrupt");
    assert!(error.to_string().contains("igest"), "{error}");
    assert_nothing_of(machine, &corrupt.layers[1], "corrupt").await;
    *front.faults.lock() = Faults::default();
    pull(&tools, &format!("{at}/corrupt:1")).await.expect("the right bytes");

    // One pull for all who want the image at once.
    let shared = registry.push_image("shared", "1", &[1 << 20, 1000, 1000]).await;
    let image = format!("{at}/shared:1");
    let all = (0..5).map(|_| pull(&tools, &image));
    for obtained in futures::future::join_all(all).await {
        assert_eq!(obtained.expect("shared").image.digest, shared.digest);
    }
    for layer in &shared.layers[1..] {
        assert_eq!(front.count(layer), 1, "{layer} came once");
    }
    assert_eq!(large.layers.len(), 2);
}

async fn assert_nothing_of(machine: &Machine, blob: &str, name: &str) {
    assert!(!ctr(machine, &["content", "ls"]).contains(blob), "the blob is not kept");
    assert!(!ctr(machine, &["images", "ls"]).contains(name), "the image has no name");
    until("no download remains", async || {
        (!ctr(machine, &["content", "active"]).contains("corten-")).then_some(())
    })
    .await;
}

fn pod_of(name: &str, image: &str, policy: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-of-{name}")},
        "spec": {"terminationGracePeriodSeconds": 0, "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"name": "c", "image": image, "imagePullPolicy": policy, "command": ["sleep", "1000"]}]}
    })
}

fn waiting(cluster: &Fake, name: &str) -> Option<(String, String)> {
    let status = cluster.status(name)?;
    let waiting = &status["containerStatuses"][0]["state"]["waiting"];
    let text = |key: &str| waiting[key].as_str().unwrap_or_default().to_owned();
    waiting.is_object().then(|| (text("reason"), text("message")))
}

async fn what_pods_show(machine: &Machine) {
    let registry = Registry::start(&machine.path("registry"), Value::Null).await;
    let front = Front::start(registry.address).await;
    let at = front.address;
    let cluster = Arc::new(Fake::default());
    cluster.secrets.lock().insert("pull".to_owned(), secret("unrelated.example", "a:b"));
    let tools = machine.tools_with(&cluster, Registries::default()).await;
    let kubelet = Kubelet::start(&tools);
    kubelet.synced().await;

    // Missing, then there: ten seconds after the first try.
    let image = format!("{at}/app:1");
    let begun = Instant::now();
    kubelet.send(PodChange::Set(pod(pod_of("late", &image, "IfNotPresent")))).await;
    let why = format!("failed to pull and unpack image \"{image}\": {image}: not found");
    until("ErrImagePull", async || {
        (waiting(&cluster, "late")? == ("ErrImagePull".to_owned(), why.clone())).then_some(())
    })
    .await;
    let backing_off =
        ("ImagePullBackOff".to_owned(), format!("Back-off pulling image \"{image}\": ErrImagePull: {why}"));
    until("ImagePullBackOff", async || (waiting(&cluster, "late")? == backing_off).then_some(())).await;
    registry.push_image("app", "1", &[1 << 20]).await;
    until("the second try", async || (cluster.status("late")?["phase"] == "Running").then_some(())).await;
    let waited = begun.elapsed();
    // On a busy machine the image may come after the second try: then it is the third.
    assert!(waited > Duration::from_secs(9), "{waited:?}");
    let told = cluster.told.lock().clone();
    for expected in [
        format!("Pulling Pulling image \"{image}\""),
        format!("Failed Failed to pull image \"{image}\": {why}"),
        "Failed Error: ErrImagePull".to_owned(),
        format!("BackOff Back-off pulling image \"{image}\""),
        "Failed Error: ImagePullBackOff".to_owned(),
        "Created Container created".to_owned(),
        "Started Container started".to_owned(),
    ] {
        assert!(told.contains(&expected), "{expected} in {told:#?}");
    }
    let pulled = told.iter().find(|told| told.starts_with("Pulled ")).expect("Pulled");
    let size = ctr(machine, &["content", "ls"]).lines().count();
    assert!(size > 3, "the blobs are here");
    let has_all = ["Successfully pulled image", " including waiting). Image size: ", " bytes."]
        .iter()
        .all(|part| pulled.contains(part));
    assert!(has_all, "{pulled}");

    // Here already.
    kubelet.send(PodChange::Set(pod(pod_of("same", &image, "IfNotPresent")))).await;
    until("the same image", async || (cluster.status("same")?["phase"] == "Running").then_some(())).await;
    let present = format!(
        "Pulled Container image \"{image}\" already present on machine and can be accessed by the pod"
    );
    assert!(cluster.has_told(&present), "{:#?}", cluster.told.lock());

    // Never, and not a name.
    for (name, image, reason, event) in [
        ("never", format!("{at}/app:2"), "ErrImageNeverPull", "ErrImageNeverPull Container image"),
        (
            "nameless",
            "NOT A NAME".to_owned(),
            "InvalidImageName",
            "InspectFailed Failed to apply default image tag",
        ),
    ] {
        kubelet.send(PodChange::Set(pod(pod_of(name, &image, "Never")))).await;
        until(reason, async || (waiting(&cluster, name)?.0 == reason).then_some(())).await;
        assert!(cluster.told.lock().iter().any(|told| told.starts_with(event)), "{event}");
    }

    // A pod that is deleted while its image hangs does not wait for it.
    registry.push_image("slow", "1", &[1000]).await;
    front.faults.lock().hangs = true;
    let mut slow = pod_of("slow", &format!("{at}/slow:1"), "Always");
    kubelet.send(PodChange::Set(pod(slow.clone()))).await;
    until("the pull", async || (front.count("/slow/blobs/") > 0).then_some(())).await;
    slow["metadata"]["deletionTimestamp"] = json!(jiff::Timestamp::now().to_string());
    slow["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    let begun = Instant::now();
    kubelet.send(PodChange::Set(pod(slow))).await;
    until("the deletion", async || cluster.deleted.lock().contains(&"slow".to_owned()).then_some(())).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "it waited for its grace: {:?}", begun.elapsed());
    until("the end of the download", async || {
        (!ctr(machine, &["leases", "ls"]).contains("corten-")).then_some(())
    })
    .await;
    for name in ["late", "same", "never", "nameless", "slow"] {
        let uid = format!("uid-of-{name}");
        let id = PodId { uid, namespace: "default".to_owned(), name: name.to_owned() };
        kubelet.send(PodChange::Gone(id)).await;
    }
    until("the end", async || kubelet.pods.list().is_empty().then_some(())).await;
    machine.assert_clean(&tools).await;
    kubelet.crash().await;
}

#[test]
fn images_by_name() {
    run(async |machine| names_and_platforms(machine).await);
}

#[test]
fn images_behind_passwords_and_tokens() {
    run(async |machine| credentials(machine).await);
}

#[test]
fn images_over_bad_connections() {
    run(async |machine| bad_connections(machine).await);
}

#[test]
fn images_in_status_and_events() {
    run(async |machine| what_pods_show(machine).await);
}
