//! An operator as people write them with kube-rs: webhooks, a controller with a
//! finalizer, status, children and events, and a standby that takes over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use daemon::tasks;
use futures::StreamExt as _;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event as Noted;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::finalizer::{Event as Stage, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher;
use kube::{Api, Client, CustomResource, CustomResourceExt as _, Resource as _, ResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use testkit::{ControlPlane, Remote};

use crate::lease::Candidate;

const PATIENCE: Duration = Duration::from_secs(20);
const GROUP: &str = "operator.example.com";
const FINALIZER: &str = "operator.example.com/archive";

/// A site of some pages.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "operator.example.com", version = "v1", kind = "Site", namespaced, status = "SiteStatus")]
#[kube(shortname = "st", printcolumn = r#"{"name":"Pages","type":"integer","jsonPath":".spec.pages"}"#)]
struct SiteSpec {
    text: String,
    /// How many pages; two, where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9))]
    pages: Option<u32>,
}

/// What has been made of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SiteStatus {
    observed_generation: Option<i64>,
    pages: u32,
    made_by: String,
}

/// What a controller needs.
struct Operator {
    client: Client,
    identity: &'static str,
    recorder: Recorder,
}

impl Operator {
    /// Leads when it is its turn, and then reconciles as long as it leads.
    async fn run(client: Client, identity: &'static str) {
        let candidate = Candidate::new(client.clone(), "operator", identity);
        loop {
            candidate.lead().await;
            tokio::select! {
                () = candidate.hold() => {}
                () = Self::reconcile_all(client.clone(), identity) => {}
            }
        }
    }

    async fn reconcile_all(client: Client, identity: &'static str) {
        let reporter = Reporter { controller: "site-controller".into(), instance: Some(identity.into()) };
        let recorder = Recorder::new(client.clone(), reporter);
        let sites: Api<Site> = Api::default_namespaced(client.clone());
        let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
        Controller::new(sites, watcher::Config::default())
            .owns(maps, watcher::Config::default())
            .run(
                reconcile,
                |_, _, _| Action::requeue(Duration::from_millis(100)),
                Arc::new(Self { client, identity, recorder }),
            )
            .for_each(|_| std::future::ready(()))
            .await;
    }

    async fn apply(&self, site: &Site) -> Result<Action, kube::Error> {
        let maps: Api<ConfigMap> = Api::default_namespaced(self.client.clone());
        let (name, pages) = (site.name_any(), site.spec.pages.unwrap_or_default());
        let owner = site.controller_owner_ref(&()).expect("it was stored");
        let label = format!("{GROUP}/site");
        for page in 0..pages {
            let child = format!("{name}-{page}");
            let map = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": child, "labels": {&label: name}, "ownerReferences": [owner]},
                "data": {"text": format!("{} {page}", site.spec.text)},
            });
            maps.patch(&child, &PatchParams::apply("site-controller").force(), &Patch::Apply(map)).await?;
        }
        for map in maps.list(&ListParams::default().labels(&format!("{label}={name}"))).await? {
            let child = map.name_any();
            if (0..pages).all(|page| child != format!("{name}-{page}")) {
                maps.delete(&child, &DeleteParams::default()).await?;
            }
        }
        let status = SiteStatus {
            observed_generation: site.metadata.generation,
            pages,
            made_by: self.identity.to_owned(),
        };
        if site.status.as_ref() != Some(&status) {
            let sites: Api<Site> = Api::default_namespaced(self.client.clone());
            let apply =
                json!({"apiVersion": Site::api_version(&()), "kind": Site::kind(&()), "status": status});
            let manager = PatchParams::apply("site-controller").force();
            sites.patch_status(&name, &manager, &Patch::Apply(apply)).await?;
            let event = Event {
                type_: EventType::Normal,
                reason: "Made".into(),
                note: Some(format!("{pages} pages made")),
                action: "Make".into(),
                secondary: None,
            };
            self.recorder.publish(&event, &site.object_ref(&())).await?;
        }
        Ok(Action::await_change())
    }

    /// What has to outlive the site is kept elsewhere.
    async fn archive(&self, site: &Site) -> Result<Action, kube::Error> {
        let maps: Api<ConfigMap> = Api::default_namespaced(self.client.clone());
        let archive = format!("archive-{}", site.name_any());
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": archive},
            "data": {"text": site.spec.text, "by": self.identity},
        });
        maps.patch(&archive, &PatchParams::apply("site-controller"), &Patch::Apply(map)).await?;
        Ok(Action::await_change())
    }
}

async fn reconcile(
    site: Arc<Site>,
    operator: Arc<Operator>,
) -> Result<Action, kube::runtime::finalizer::Error<kube::Error>> {
    let sites: Api<Site> = Api::default_namespaced(operator.client.clone());
    finalizer(&sites, FINALIZER, site, async |stage| match stage {
        Stage::Apply(site) => operator.apply(&site).await,
        Stage::Cleanup(site) => operator.archive(&site).await,
    })
    .await
}

/// The webhooks: pages have a default, and texts must not shout.
fn admit(path: &str, review: &Value) -> (u16, Value) {
    let review: AdmissionReview<Site> = match serde_json::from_value(review.clone()) {
        Ok(review) => review,
        Err(error) => return (400, error.to_string().into()),
    };
    let request: AdmissionRequest<Site> = review.try_into().expect("it has a request");
    let response = AdmissionResponse::from(&request);
    let site = request.object.expect("it is written");
    let is_loud = site.spec.text.to_uppercase() == site.spec.text;
    let response = match path {
        "/default" if site.spec.pages.is_none() => {
            let add = json!([{"op": "add", "path": "/spec/pages", "value": 2}]);
            response.with_patch(serde_json::from_value(add).expect("a patch")).expect("it is encoded")
        }
        "/judge" if is_loud => response.deny("a text must not shout"),
        _ => response,
    };
    (200, serde_json::to_value(response.into_review()).expect("JSON"))
}

async fn register(client: &Client, server: &Remote) {
    let ca = std::fs::read(server.ca()).expect("the CA");
    let ca = base64::engine::general_purpose::STANDARD.encode(ca);
    let webhook = |name: &str| {
        json!([{
            "name": format!("{name}.{GROUP}"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"url": format!("{}/{name}", server.url()), "caBundle": ca},
            "rules": [{
                "apiGroups": [GROUP], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                "resources": ["sites"],
            }],
        }])
    };
    let metadata = json!({"name": "sites"});
    let mutating = json!({"metadata": metadata, "webhooks": webhook("default")});
    let mutating: MutatingWebhookConfiguration = serde_json::from_value(mutating).expect("valid");
    let validating = json!({"metadata": metadata, "webhooks": webhook("judge")});
    let validating: ValidatingWebhookConfiguration = serde_json::from_value(validating).expect("valid");
    let mutators: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    mutators.create(&PostParams::default(), &mutating).await.expect("creates");
    let validators: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    validators.create(&PostParams::default(), &validating).await.expect("creates");
    // Who lists them has seen what the API server has seen.
    validators.list(&ListParams::default()).await.expect("lists");
}

async fn define(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = PatchParams::apply("operator");
    definitions.patch(Site::crd_name(), &apply, &Patch::Apply(Site::crd())).await.expect("applies");
    let established = await_condition(definitions, Site::crd_name(), conditions::is_crd_established());
    tokio::time::timeout(PATIENCE, established).await.expect("in time").expect("established");
}

fn site(name: &str, text: &str) -> Site {
    Site::new(name, SiteSpec { text: text.to_owned(), pages: None })
}

/// Waits until a site's status is as it should be after its latest change.
async fn settled(sites: &Api<Site>, name: &str, pages: u32, made_by: &str) {
    let is_settled = |site: Option<&Site>| {
        site.is_some_and(|site| {
            let observed_generation = site.metadata.generation;
            let wanted = SiteStatus { observed_generation, pages, made_by: made_by.to_owned() };
            site.status == Some(wanted)
        })
    };
    let waiting = await_condition(sites.clone(), name, is_settled);
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("{made_by} did not make {pages} pages"))
        .expect("watches");
}

async fn texts(maps: &Api<ConfigMap>, name: &str) -> BTreeMap<String, String> {
    let children = ListParams::default().labels(&format!("{GROUP}/site={name}"));
    let maps = maps.list(&children).await.expect("lists");
    maps.into_iter().map(|map| (map.name_any(), map.data.expect("data")["text"].clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_controller_and_standby() {
    let plane = ControlPlane::start().await.expect("starts");
    let client = crate::kube_rs::client(&plane).await;
    let server = Remote::start(admit).await.expect("starts");
    define(&client).await;
    register(&client, &server).await;
    let sites: Api<Site> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let leases: Api<Lease> = Api::default_namespaced(client.clone());

    let first = tasks::spawn("first", Operator::run(client.clone(), "first"));
    let leads = |identity: &'static str| {
        await_condition(leases.clone(), "operator", move |lease: Option<&Lease>| {
            let spec = lease.and_then(|lease| lease.spec.as_ref());
            spec.is_some_and(|spec| spec.holder_identity.as_deref() == Some(identity))
        })
    };
    tokio::time::timeout(PATIENCE, leads("first")).await.expect("in time").expect("leads");
    let second = tasks::spawn("second", Operator::run(client.clone(), "second"));

    let loud = sites.create(&PostParams::default(), &site("s", "LOUD")).await.expect_err("it shouts");
    let kube::Error::Api(status) = loud else { panic!("{loud}") };
    let message =
        r#"admission webhook "judge.operator.example.com" denied the request: a text must not shout"#;
    assert_eq!((status.code, status.message.as_str()), (400, message));
    let made = sites.create(&PostParams::default(), &site("s", "quiet")).await.expect("creates");
    assert_eq!(made.spec.pages, Some(2), "the webhook's default");
    settled(&sites, "s", 2, "first").await;
    let pages = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
        list.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    };
    assert_eq!(texts(&maps, "s").await, pages(&[("s-0", "quiet 0"), ("s-1", "quiet 1")]));
    let stored = sites.get("s").await.expect("is there");
    assert_eq!(stored.finalizers(), [FINALIZER]);
    let managers = stored.managed_fields().iter().filter(|one| one.subresource.as_deref() == Some("status"));
    let managers: Vec<_> = managers.map(|one| (one.manager.as_deref(), one.operation.as_deref())).collect();
    assert_eq!(managers, [(Some("site-controller"), Some("Apply"))]);
    let events: Api<Noted> = Api::default_namespaced(client.clone());
    testkit::eventually("an event", || async {
        let about = ListParams::default().fields("reason=Made");
        events
            .list(&about)
            .await
            .is_ok_and(|list| list.items.iter().any(|event| event.note.as_deref() == Some("2 pages made")))
    })
    .await
    .expect("in time");

    // The leader dies without a word; the standby waits for the lease to expire.
    first.abort();
    drop(first.await);
    maps.delete("s-0", &DeleteParams::default()).await.expect("deletes");
    let change = Patch::Merge(json!({"spec": {"pages": 1}}));
    sites.patch("s", &PatchParams::default(), &change).await.expect("merges");
    settled(&sites, "s", 1, "second").await;
    assert_eq!(texts(&maps, "s").await, pages(&[("s-0", "quiet 0")]));
    let lease = leases.get("operator").await.expect("is there").spec.expect("a spec");
    let held = (lease.holder_identity.as_deref(), lease.lease_transitions);
    assert_eq!(held, (Some("second"), Some(1)));

    sites.delete("s", &DeleteParams::default()).await.expect("deletes");
    let uid = made.uid().expect("a uid");
    let deleted = await_condition(sites.clone(), "s", conditions::is_deleted(&uid));
    tokio::time::timeout(PATIENCE, deleted).await.expect("in time").expect("watches");
    let archive = maps.get("archive-s").await.expect("was archived").data.expect("data");
    assert_eq!(archive, BTreeMap::from([("by".into(), "second".into()), ("text".into(), "quiet".into())]));
    second.abort();
}
