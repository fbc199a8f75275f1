"""Dynamic objects: discovered, applied, patched, watched; custom resources among them."""

import threading
import unittest

from kubernetes import client, config
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import (
    ConflictError,
    NotFoundError,
    ResourceNotFoundError,
    UnprocessibleEntityError,
)

config.load_kube_config()

DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "notes.dynamic.example.com"},
    "spec": {
        "group": "dynamic.example.com",
        "scope": "Namespaced",
        "names": {"plural": "notes", "singular": "note", "kind": "Note", "shortNames": ["nt"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "text": {"type": "string", "minLength": 1},
                                    "size": {"type": "integer", "default": 7},
                                },
                            },
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}


def note(name, **spec):
    return {
        "apiVersion": "dynamic.example.com/v1",
        "kind": "Note",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


class Dynamic(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = DynamicClient(client.ApiClient())
        definitions = cls.client.resources.get(kind="CustomResourceDefinition")
        definitions.create(body=DEFINITION)
        for event in definitions.watch(name="notes.dynamic.example.com", timeout=30):
            conditions = event["raw_object"]["status"]["conditions"] or []
            if any(one["type"] == "Established" and one["status"] == "True" for one in conditions):
                break
        cls.maps = cls.client.resources.get(api_version="v1", kind="ConfigMap")
        cls.notes = cls.client.resources.get(api_version="dynamic.example.com/v1", kind="Note")

    def test_resources_are_discovered(self):
        self.assertEqual(self.client.version["kubernetes"]["minor"], "36")
        deployments = self.client.resources.get(api_version="apps/v1", kind="Deployment")
        self.assertEqual((deployments.name, deployments.namespaced), ("deployments", True))
        self.assertIn("scale", deployments.subresources)
        self.assertEqual(self.notes.short_names, ["nt"])
        with self.assertRaises(ResourceNotFoundError):
            self.client.resources.get(api_version="v1", kind="Nothing")

    def test_objects_are_applied_by_the_server(self):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"k": "1"}}
        apply = lambda manager, **options: self.client.server_side_apply(
            self.maps, body=body, namespace="default", field_manager=manager, **options
        )
        self.assertEqual(apply("one").data.k, "1")
        body["data"]["k"] = "2"
        with self.assertRaises(ConflictError) as caught:
            apply("two")
        self.assertIn('conflict with "one"', caught.exception.summary())
        self.assertEqual(apply("two", force_conflicts=True).data.k, "2")
        managers = self.maps.get(name="applied", namespace="default").metadata.managedFields
        self.assertEqual([(one.manager, one.operation) for one in managers], [("two", "Apply")])

    def test_patches_of_each_type(self):
        self.notes.create(body=note("patched", text="a"))
        patch = lambda body, media: self.notes.patch(
            body=body, name="patched", namespace="default", content_type=f"application/{media}"
        )
        merged = patch({"spec": {"text": None, "size": 1}}, "merge-patch+json")
        self.assertEqual(merged.spec.to_dict(), {"size": 1})
        operations = [{"op": "add", "path": "/spec/text", "value": "b"}]
        self.assertEqual(patch(operations, "json-patch+json").spec.to_dict(), {"size": 1, "text": "b"})
        with self.assertRaises(UnprocessibleEntityError):
            patch({"spec": {"text": ""}}, "merge-patch+json")
        # There is no strategy to merge a custom resource by.
        with self.assertRaises(Exception) as caught:
            patch({"spec": {"size": 2}}, "strategic-merge-patch+json")
        self.assertEqual(caught.exception.status, 415)
        strategic = self.maps.create(
            body={"metadata": {"name": "strategic"}, "data": {"a": "1"}}, namespace="default"
        )
        self.assertEqual(strategic.data.a, "1")
        strategic = self.maps.patch(body={"data": {"b": "2"}}, name="strategic", namespace="default")
        self.assertEqual(strategic.data.to_dict(), {"a": "1", "b": "2"})

    def test_custom_resources(self):
        made = self.notes.create(body=note("n", text="a"))
        self.assertEqual(made.spec.size, 7)
        with self.assertRaises(UnprocessibleEntityError) as caught:
            self.notes.create(body=note("bad", text=""))
        self.assertIn("spec.text", caught.exception.summary())
        self.notes.status.patch(
            body={"status": {"seen": True}}, name="n", namespace="default", content_type="application/merge-patch+json"
        )
        read = self.notes.get(name="n", namespace="default")
        self.assertEqual((read.status.seen, read.metadata.generation), (True, 1))
        read.spec.text = "b"
        replaced = self.notes.replace(body=read.to_dict(), namespace="default")
        self.assertEqual((replaced.spec.text, replaced.metadata.generation), ("b", 2))
        dry = self.client.create(self.notes, body=note("dry", text="a"), namespace="default", dry_run="All")
        self.assertTrue(dry.metadata.uid)
        with self.assertRaises(NotFoundError):
            self.notes.get(name="dry", namespace="default")
        self.notes.delete(name="n", namespace="default")
        with self.assertRaises(NotFoundError):
            self.notes.get(name="n", namespace="default")

    def test_changes_are_watched(self):
        start = self.notes.get(namespace="default").metadata.resourceVersion

        def change():
            self.notes.create(body=note("watched", text="a"))
            self.notes.patch(
                body={"spec": {"text": "b"}},
                name="watched",
                namespace="default",
                content_type="application/merge-patch+json",
            )
            self.notes.delete(name="watched", namespace="default")

        changing = threading.Thread(target=change)
        changing.start()
        seen = []
        for event in self.notes.watch(namespace="default", name="watched", resource_version=start, timeout=30):
            seen.append((event["type"], event["object"].spec.text))
            if event["type"] == "DELETED":
                break
        changing.join()
        self.assertEqual(seen, [("ADDED", "a"), ("MODIFIED", "b"), ("DELETED", "b")])
