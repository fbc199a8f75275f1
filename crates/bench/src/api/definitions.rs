//! Many custom resource definitions: what they take of memory, and of time to load.

use std::time::Duration;

use anyhow::ensure;
use daemon::{Clock as _, SystemClock};

use super::server::Server;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A definition with a schema as operators have them.
fn definition(number: usize) -> String {
    let fields: Vec<String> = (0..20)
        .map(|field| {
            format!(
                r#""field{field}":{{"type":"object","description":"A field that says something about the thing.",
                "properties":{{"name":{{"type":"string","maxLength":63}},"count":{{"type":"integer","minimum":0}},
                "labels":{{"type":"object","additionalProperties":{{"type":"string"}}}},
                "items":{{"type":"array","items":{{"type":"object","properties":{{"key":{{"type":"string"}}}}}}}}}}}}"#
            )
        })
        .collect();
    let schema = format!(
        r#"{{"type":"object","properties":{{"spec":{{"type":"object","properties":{{{}}}}},
        "status":{{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}}}}"#,
        fields.join(",")
    );
    format!(
        r#"{{"metadata":{{"name":"things{number}.bench.example.com"}},"spec":{{"group":"bench.example.com",
        "scope":"Namespaced","names":{{"plural":"things{number}","singular":"thing{number}","kind":"Thing{number}"}},
        "versions":[{{"name":"v1","served":true,"storage":true,"subresources":{{"status":{{}}}},
        "schema":{{"openAPIV3Schema":{schema}}}}}]}}}}"#
    )
}

pub(super) async fn run(server: &mut Server, count: usize) -> anyhow::Result<()> {
    server.restart().await?;
    let (without, empty) = (server.usage()?.resident_mib, server.start_to_ready);
    let http = server.http()?;
    let started = SystemClock.monotonic();
    for number in 0..count {
        let answer = http.post(DEFINITIONS, definition(number)).await?;
        ensure!(answer.0 == 201, "create a definition: {}", String::from_utf8_lossy(&answer.1));
    }
    let last = format!("/apis/bench.example.com/v1/things{}", count.saturating_sub(1));
    served(server, &last).await?;
    let made = SystemClock.monotonic().duration_since(started);
    // What comes after them: names accepted, documents made.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let more = server.usage()?.resident_mib - without;
    println!(
        "\n{count} custom resource definitions of {} KB: made and served in {:.1} s, {more:.0} MiB",
        definition(0).len() / 1024,
        made.as_secs_f64(),
    );
    let started = SystemClock.monotonic();
    server.restart().await?;
    served(server, &last).await?;
    println!(
        "loaded and served {:.2} s after a start (without them {:.2} s), {:.0} MiB more",
        SystemClock.monotonic().duration_since(started).as_secs_f64(),
        empty.as_secs_f64(),
        server.usage()?.resident_mib - without,
    );
    Ok(())
}

async fn served(server: &Server, path: &str) -> anyhow::Result<()> {
    let http = server.http()?;
    let started = SystemClock.monotonic();
    while http.get(path).await?.0 != 200 {
        let waited = SystemClock.monotonic().duration_since(started);
        ensure!(waited < Duration::from_secs(60), "{path} is not served after 60 seconds");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
