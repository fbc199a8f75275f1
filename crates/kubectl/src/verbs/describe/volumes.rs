//! Volumes of pods and persistent volumes, by a table of their sources.

use serde_json::Value;

use super::text::{Text, bracketed, entries, items, text, text_or};

/// How one field of a source is shown.
enum Shown {
    /// A text, a number or nothing.
    Plain(&'static str),
    /// A text, or this where there is none.
    Or(&'static str, &'static str),
    /// `true`, or `false`.
    Flag(&'static str),
    /// A list of texts, with commas.
    List(&'static str),
    /// A list of texts, in brackets.
    Bracketed(&'static str),
    /// The field `name` of an object.
    Name(&'static str),
}

use Shown::{Bracketed, Flag, List, Name, Or, Plain};

/// A source's field, what it is, and the lines below.
type Source = (&'static str, &'static str, &'static [(&'static str, Shown)]);

const SOURCES: &[Source] = &[
    (
        "hostPath",
        "HostPath (bare host directory volume)",
        &[("Path", Plain("path")), ("HostPathType", Or("type", "<none>"))],
    ),
    (
        "emptyDir",
        "EmptyDir (a temporary directory that shares a pod's lifetime)",
        &[("Medium", Plain("medium")), ("SizeLimit", Or("sizeLimit", "<unset>"))],
    ),
    (
        "secret",
        "Secret (a volume populated by a Secret)",
        &[("SecretName", Plain("secretName")), ("Optional", Flag("optional"))],
    ),
    (
        "configMap",
        "ConfigMap (a volume populated by a ConfigMap)",
        &[("Name", Plain("name")), ("Optional", Flag("optional"))],
    ),
    (
        "nfs",
        "NFS (an NFS mount that lasts the lifetime of a pod)",
        &[("Server", Plain("server")), ("Path", Plain("path")), ("ReadOnly", Flag("readOnly"))],
    ),
    (
        "iscsi",
        "ISCSI (an ISCSI Disk resource that is attached to a kubelet's host machine and then exposed to the pod)",
        &[
            ("TargetPortal", Plain("targetPortal")),
            ("IQN", Plain("iqn")),
            ("Lun", Plain("lun")),
            ("ISCSIInterface", Plain("iscsiInterface")),
            ("FSType", Plain("fsType")),
            ("ReadOnly", Flag("readOnly")),
            ("Portals", Bracketed("portals")),
            ("DiscoveryCHAPAuth", Flag("chapAuthDiscovery")),
            ("SessionCHAPAuth", Flag("chapAuthSession")),
            ("SecretRef", Name("secretRef")),
            ("InitiatorName", Or("initiatorName", "<none>")),
        ],
    ),
    (
        "persistentVolumeClaim",
        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        &[("ClaimName", Plain("claimName")), ("ReadOnly", Flag("readOnly"))],
    ),
    ("downwardAPI", "DownwardAPI (a volume populated by information about the pod)", &[]),
    ("projected", "Projected (a volume that contains injected data from multiple sources)", &[]),
    (
        "ephemeral",
        "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)",
        &[],
    ),
    (
        "fc",
        "FC (a Fibre Channel disk)",
        &[
            ("TargetWWNs", List("targetWWNs")),
            ("LUN", Or("lun", "<none>")),
            ("FSType", Plain("fsType")),
            ("ReadOnly", Flag("readOnly")),
        ],
    ),
    (
        "local",
        "LocalVolume (a persistent volume backed by local storage on a node)",
        &[("Path", Plain("path"))],
    ),
    (
        "image",
        "Image (a container image or OCI artifact)",
        &[("Reference", Plain("reference")), ("PullPolicy", Plain("pullPolicy"))],
    ),
];

/// The volumes of a pod, or of a pod's template.
pub(super) fn of_pod(out: &mut Text, volumes: &Value, space: &str) {
    if items(volumes).next().is_none() {
        return out.line(0, format_args!("{space}Volumes:\t<none>"));
    }
    out.line(0, format_args!("{space}Volumes:"));
    let indent = if space.is_empty() { "" } else { " " };
    for volume in items(volumes) {
        out.line(1, format_args!("{indent}{}:", text(&volume["name"])));
        source(out, volume);
    }
}

/// Where a volume comes from.
pub(super) fn source(out: &mut Text, volume: &Value) {
    if let Some(csi) = volume.get("csi") {
        return self::csi(out, csi);
    }
    let Some((field, what, lines)) = SOURCES.iter().find(|(field, ..)| volume.get(field).is_some()) else {
        return out.line(1, "<unknown>");
    };
    let source = &volume[*field];
    out.field_at(2, "Type", what);
    for (title, shown) in *lines {
        out.field_at(2, title, show(source, shown));
    }
    match *field {
        "projected" => projected(out, source),
        "downwardAPI" => downward(out, source),
        "ephemeral" => claim_template(out, &source["volumeClaimTemplate"]),
        _ => {}
    }
}

fn show(source: &Value, shown: &Shown) -> String {
    let plain = |field: &str| match &source[field] {
        Value::Null => String::new(),
        value => crate::jsonpath::plain(value),
    };
    match *shown {
        Plain(field) => plain(field),
        // A size of zero is no limit.
        Or("sizeLimit", default) if plain("sizeLimit") == "0" => default.to_owned(),
        Or(field, default) if source[field].is_null() => default.to_owned(),
        Or(field, _) => plain(field),
        Flag(field) => (source[field] == true).to_string(),
        List(field) => super::text::joined(&source[field], ", "),
        Bracketed(field) => bracketed(&source[field]),
        Name(field) => match &source[field] {
            Value::Null => "nil".into(),
            secret => format!("&LocalObjectReference{{Name:{},}}", text(&secret["name"])),
        },
    }
}

fn projected(out: &mut Text, source: &Value) {
    for one in items(&source["sources"]) {
        if let Some(secret) = one.get("secret") {
            out.field_at(2, "SecretName", text(&secret["name"]));
            out.field_at(2, "Optional", secret["optional"] == true);
        } else if one.get("downwardAPI").is_some() {
            out.field_at(2, "DownwardAPI", true);
        } else if let Some(map) = one.get("configMap") {
            out.field_at(2, "ConfigMapName", text(&map["name"]));
            out.field_at(2, "Optional", map["optional"] == true);
        } else if let Some(token) = one.get("serviceAccountToken") {
            out.field_at(2, "TokenExpirationSeconds", super::text::number(&token["expirationSeconds"]));
        }
    }
}

fn downward(out: &mut Text, source: &Value) {
    out.line(2, "Items:");
    for one in items(&source["items"]) {
        if let Some(field) = one.get("fieldRef") {
            out.line(3, format_args!("{} -> {}", text(&field["fieldPath"]), text(&one["path"])));
        }
        if let Some(resource) = one.get("resourceFieldRef") {
            out.line(3, format_args!("{} -> {}", text(&resource["resource"]), text(&one["path"])));
        }
    }
}

fn claim_template(out: &mut Text, template: &Value) {
    if template.is_null() {
        return;
    }
    super::persistentvolumeclaim::summary(out, template);
}

fn csi(out: &mut Text, csi: &Value) {
    out.field_at(2, "Type", "CSI (a Container Storage Interface (CSI) volume source)");
    out.field_at(2, "Driver", text(&csi["driver"]));
    out.field_at(2, "FSType", text(&csi["fsType"]));
    if csi.get("volumeHandle").is_some() {
        out.field_at(2, "VolumeHandle", text(&csi["volumeHandle"]));
    }
    out.field_at(2, "ReadOnly", csi["readOnly"] == true);
    let mut title = "VolumeAttributes:";
    for (key, value) in entries(&csi["volumeAttributes"]) {
        // Upstream indents the values too.
        out.line(2, format_args!("{title}\t    {key}={}", text_or(value, "")));
        title = "    ";
    }
    if entries(&csi["volumeAttributes"]).next().is_none() {
        out.line(2, format_args!("{title}\t<none>"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn volumes_are_shown() {
        let volumes = json!([
            {"name": "a", "emptyDir": {}},
            {"name": "b", "hostPath": {"path": "/x"}},
            {"name": "c", "projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 3607}},
                {"configMap": {"name": "ca"}}, {"downwardAPI": {}}]}},
            {"name": "d", "other": {}}]);
        let mut out = Text::default();
        of_pod(&mut out, &volumes, "");
        let expected = "\
Volumes:
  a:
    Type:       EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:     
    SizeLimit:  <unset>
  b:
    Type:          HostPath (bare host directory volume)
    Path:          /x
    HostPathType:  <none>
  c:
    Type:                    Projected (a volume that contains injected data from multiple sources)
    TokenExpirationSeconds:  3607
    ConfigMapName:           ca
    Optional:                false
    DownwardAPI:             true
  d:
  <unknown>
";
        assert_eq!(out.laid_out(), expected);
    }
}
