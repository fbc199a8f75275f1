//! The kubelet's own HTTP endpoints, as the API server's node proxy asks for
//! them.

use serde_json::json;
use wire::node as pb;

use crate::worker::pods::Pods;

/// Answers a request.
pub(super) fn answer(pods: &Pods, request: &pb::HttpRequest) -> pb::HttpResponse {
    let path = request.path.split('?').next().unwrap_or_default();
    match path.trim_end_matches('/') {
        "/healthz" | "/healthz/ping" | "/healthz/syncloop" => {
            text(200, "text/plain; charset=utf-8", "ok".to_owned())
        }
        "/pods" | "/runningpods" => {
            let items: Vec<_> = pods
                .list()
                .into_iter()
                .map(|(pod, shown)| {
                    let mut pod = api::types::core::v1::Pod::clone(&pod);
                    pod.status = Some(shown.status);
                    pod
                })
                .collect();
            let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
            text(200, "application/json", list.to_string())
        }
        "/stats/summary" => text(200, "application/json", super::stats::summary(pods).to_string()),
        "/metrics" => text(200, "text/plain; version=0.0.4", metrics(pods)),
        _ => text(404, "text/plain; charset=utf-8", "404 page not found\n".to_owned()),
    }
}

fn text(status: u32, kind: &str, body: String) -> pb::HttpResponse {
    pb::HttpResponse {
        status,
        headers: [("content-type".to_owned(), kind.to_owned())].into(),
        body: body.into(),
    }
}

fn metrics(pods: &Pods) -> String {
    let list = pods.list();
    let containers: usize = list.iter().map(|(_, shown)| shown.observed.running().count()).sum();
    let running = list.iter().filter(|(_, shown)| shown.observed.running().next().is_some()).count();
    format!(
        "# TYPE kubelet_running_pods gauge\nkubelet_running_pods {running}\n\
         # TYPE kubelet_running_containers gauge\nkubelet_running_containers{{container_state=\"running\"}} {containers}\n"
    )
}
