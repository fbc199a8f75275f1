"""Typed objects: written, read, patched, refused, and made from a file."""

import json
import tempfile
import unittest

from kubernetes import client, config, utils
from kubernetes.client.exceptions import ApiException

config.load_kube_config()

MANIFEST = """
apiVersion: v1
kind: Namespace
metadata: {name: from-file}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: from-file}
  spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: from-file}
  spec:
    selector: {matchLabels: {app: web}}
    template:
      metadata: {labels: {app: web}}
      spec: {containers: [{name: web, image: web}]}
"""


def config_map(name, data, labels=None):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels=labels), data=data)


class Typed(unittest.TestCase):
    def setUp(self):
        self.core = client.CoreV1Api()

    def refused(self, code, reason, call, *arguments, **options):
        with self.assertRaises(ApiException) as caught:
            call(*arguments, **options)
        error = caught.exception
        status = json.loads(error.body)
        self.assertEqual((error.status, status["reason"], status["kind"]), (code, reason, "Status"))
        return status

    def test_version(self):
        version = client.VersionApi().get_code()
        self.assertEqual((version.major, version.minor), ("1", "36"))

    def test_objects_are_written_and_read(self):
        made = self.core.create_namespaced_config_map("default", config_map("a", {"k": "1"}))
        self.assertIsNotNone(made.metadata.creation_timestamp.tzinfo)
        read = self.core.read_namespaced_config_map("a", "default")
        self.assertEqual(read, made)
        read.data["k"] = "2"
        replaced = self.core.replace_namespaced_config_map("a", "default", read)
        self.assertEqual(replaced.data, {"k": "2"})
        status = self.refused(409, "Conflict", self.core.replace_namespaced_config_map, "a", "default", made)
        self.assertIn("the object has been modified", status["message"])
        self.refused(409, "AlreadyExists", self.core.create_namespaced_config_map, "default", config_map("a", {}))
        ended = self.core.delete_namespaced_config_map("a", "default")
        self.assertEqual((ended.status, ended.details.name), ("Success", "a"))
        status = self.refused(404, "NotFound", self.core.read_namespaced_config_map, "a", "default")
        self.assertEqual(status["message"], 'configmaps "a" not found')
        self.assertEqual(status["details"], {"name": "a", "kind": "configmaps"})

    def test_what_is_invalid_is_refused_field_by_field(self):
        port = client.V1ServicePort(port=0)
        service = client.V1Service(metadata=client.V1ObjectMeta(name="UPPER"), spec=client.V1ServiceSpec(ports=[port]))
        status = self.refused(422, "Invalid", self.core.create_namespaced_service, "default", service)
        fields = {cause["field"] for cause in status["details"]["causes"]}
        self.assertEqual(fields, {"metadata.name", "spec.ports[0].port", "spec.ports[0].targetPort"})

    def test_others_are_refused(self):
        nobody = client.Configuration.get_default_copy()
        nobody.cert_file = nobody.key_file = None
        core = client.CoreV1Api(client.ApiClient(nobody))
        status = self.refused(403, "Forbidden", core.list_namespace)
        self.assertIn('User "system:anonymous" cannot list resource "namespaces"', status["message"])
        nobody.api_key = {"authorization": "Bearer unknown"}
        self.refused(401, "Unauthorized", client.CoreV1Api(client.ApiClient(nobody)).list_namespace)
        self.core.create_namespaced_service_account(
            "default", client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="little"))
        )
        request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
        token = self.core.create_namespaced_service_account_token("little", "default", request)
        nobody.api_key = {"authorization": f"Bearer {token.status.token}"}
        core = client.CoreV1Api(client.ApiClient(nobody))
        status = self.refused(403, "Forbidden", core.list_namespaced_secret, "default")
        self.assertEqual(
            status["message"],
            'secrets is forbidden: User "system:serviceaccount:default:little" cannot list resource "secrets"'
            ' in API group "" in the namespace "default"',
        )
        review = client.V1SelfSubjectReview()
        user = client.AuthenticationV1Api(core.api_client).create_self_subject_review(review).status.user_info
        self.assertEqual(user.username, "system:serviceaccount:default:little")

    def test_lists_come_in_pages(self):
        for name in "xyz":
            self.core.create_namespaced_config_map("default", config_map(name, {}, {"paged": "yes"}))
        page = self.core.list_namespaced_config_map("default", label_selector="paged=yes", limit=2)
        self.assertEqual([one.metadata.name for one in page.items], ["x", "y"])
        page = self.core.list_namespaced_config_map(
            "default", label_selector="paged=yes", limit=2, _continue=page.metadata._continue
        )
        self.assertEqual([one.metadata.name for one in page.items], ["z"])
        self.assertIsNone(page.metadata._continue)
        named = self.core.list_config_map_for_all_namespaces(field_selector="metadata.name=y")
        self.assertEqual(len(named.items), 1)
        self.core.delete_collection_namespaced_config_map("default", label_selector="paged=yes")
        self.assertEqual(self.core.list_namespaced_config_map("default", label_selector="paged=yes").items, [])

    def test_patches(self):
        # The client sends a dictionary as a strategic merge patch, a list as a JSON patch.
        container = client.V1Container(name="web", image="web", env=[client.V1EnvVar(name="A", value="1")])
        template = client.V1PodTemplateSpec(
            metadata=client.V1ObjectMeta(labels={"app": "patched"}), spec=client.V1PodSpec(containers=[container])
        )
        spec = client.V1DeploymentSpec(selector=client.V1LabelSelector(match_labels={"app": "patched"}), template=template)
        apps = client.AppsV1Api()
        apps.create_namespaced_deployment(
            "default", client.V1Deployment(metadata=client.V1ObjectMeta(name="patched"), spec=spec)
        )
        added = {"spec": {"template": {"spec": {"containers": [{"name": "web", "env": [{"name": "B", "value": "2"}]}]}}}}
        patched = apps.patch_namespaced_deployment("patched", "default", added)
        env = patched.spec.template.spec.containers[0].env
        self.assertEqual([(one.name, one.value) for one in env], [("B", "2"), ("A", "1")])
        operations = [
            {"op": "test", "path": "/spec/replicas", "value": 1},
            {"op": "replace", "path": "/spec/replicas", "value": 3},
        ]
        self.assertEqual(apps.patch_namespaced_deployment("patched", "default", operations).spec.replicas, 3)
        self.refused(422, "Invalid", apps.patch_namespaced_deployment, "patched", "default", operations)
        scale = apps.patch_namespaced_deployment_scale("patched", "default", {"spec": {"replicas": 5}})
        self.assertEqual((scale.spec.replicas, scale.status.selector), (5, "app=patched"))
        applied = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"labels": {"by": "apply"}}}
        options = {"field_manager": "one", "_content_type": "application/apply-patch+yaml"}
        labels = apps.patch_namespaced_deployment("patched", "default", applied, **options).metadata.labels
        self.assertEqual(labels, {"by": "apply"})
        applied["metadata"]["labels"]["by"] = "another"
        options["field_manager"] = "two"
        status = self.refused(409, "Conflict", apps.patch_namespaced_deployment, "patched", "default", applied, **options)
        self.assertEqual(status["details"]["causes"][0]["reason"], "FieldManagerConflict")
        forced = apps.patch_namespaced_deployment("patched", "default", applied, force=True, **options)
        self.assertEqual(forced.metadata.labels, {"by": "another"})

    def test_files_are_made_objects_of(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(MANIFEST)
            file.flush()
            utils.create_from_yaml(client.ApiClient(), file.name)
            with self.assertRaises(utils.FailToCreateError) as caught:
                utils.create_from_yaml(client.ApiClient(), file.name)
            # The members of the list fail together.
            self.assertEqual({error.status for error in caught.exception.api_exceptions}, {409})
            utils.create_from_yaml(client.ApiClient(), file.name, namespace="from-file", apply=True)
        service = self.core.read_namespaced_service("web", "from-file")
        self.assertEqual((service.spec.ports[0].target_port, service.spec.type), (8080, "ClusterIP"))
        deployment = client.AppsV1Api().read_namespaced_deployment("web", "from-file")
        self.assertEqual((deployment.spec.replicas, deployment.spec.strategy.type), (1, "RollingUpdate"))

    def test_custom_objects(self):
        definition = {
            "metadata": {"name": "things.typed.example.com"},
            "spec": {
                "group": "typed.example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
                "versions": [{
                    "name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {
                        "type": "object", "x-kubernetes-preserve-unknown-fields": True,
                    }},
                }],
            },
        }
        extensions = client.ApiextensionsV1Api()
        extensions.create_custom_resource_definition(definition)
        conditions = []
        while not any(one.type == "Established" and one.status == "True" for one in conditions):
            conditions = extensions.read_custom_resource_definition("things.typed.example.com").status.conditions or []
        custom = client.CustomObjectsApi()
        place = ("typed.example.com", "v1", "default", "things")
        thing = {"apiVersion": "typed.example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"a": 1}}
        custom.create_namespaced_custom_object(*place, thing)
        patched = custom.patch_namespaced_custom_object(*place, "t", {"spec": {"b": 2}})
        self.assertEqual(patched["spec"], {"a": 1, "b": 2})
        custom.patch_namespaced_custom_object_status(*place, "t", {"status": {"done": True}})
        listed = custom.list_namespaced_custom_object(*place)
        self.assertEqual([one["status"] for one in listed["items"]], [{"done": True}])
        self.assertEqual(custom.delete_namespaced_custom_object(*place, "t")["status"], "Success")
