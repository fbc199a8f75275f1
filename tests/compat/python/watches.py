"""Watches: taken up again where they ended, ended in time; an informer; a lease held."""

import threading
import time
import unittest

from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.informer import SharedInformer
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock

config.load_kube_config()


def config_map(name, data=None):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"app": "watched"}), data=data)


class Watches(unittest.TestCase):
    def setUp(self):
        self.core = client.CoreV1Api()
        self.namespace = "watch-" + self._testMethodName.removeprefix("test_").replace("_", "-")
        self.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=self.namespace)))

    def create(self, name, data=None):
        return self.core.create_namespaced_config_map(self.namespace, config_map(name, data))

    def watched(self, watching=None, **options):
        watching = watching or watch.Watch()
        return watching.stream(self.core.list_namespaced_config_map, self.namespace, **options)

    def test_a_watch_goes_on_where_it_ended(self):
        self.create("a")
        watching = watch.Watch()
        for event in self.watched(watching, timeout_seconds=30):
            self.assertEqual((event["type"], event["object"].metadata.name), ("ADDED", "a"))
            watching.stop()
        made = self.create("b")
        self.core.delete_namespaced_config_map("a", self.namespace)
        seen = []
        for event in self.watched(resource_version=watching.resource_version, timeout_seconds=30):
            seen.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                break
        self.assertEqual(seen, [("ADDED", "b"), ("DELETED", "a")])
        # What came before a version does not come again.
        again = self.watched(resource_version=made.metadata.resource_version, timeout_seconds=30)
        self.assertEqual(next(again)["type"], "DELETED")
        again.close()

    def test_a_watch_ends_in_time(self):
        self.create("a")
        begun = time.monotonic()
        seen = [event["object"].metadata.name for event in self.watched(timeout_seconds=1)]
        self.assertEqual(seen, ["a"])
        self.assertTrue(0.9 < time.monotonic() - begun < 10)
        # Without a limit of its own the client asks again after each end.
        with self.assertRaises(Exception) as caught:
            for _ in self.watched(_request_timeout=1):
                pass
        self.assertIn("timed out", str(caught.exception).lower())

    def test_selectors_move_objects_in_and_out(self):
        start = self.core.list_namespaced_config_map(self.namespace).metadata.resource_version
        self.create("a", {"k": "1"})
        for value in ["no", "watched"]:
            self.core.patch_namespaced_config_map("a", self.namespace, {"metadata": {"labels": {"app": value}}})
        seen = []
        for event in self.watched(resource_version=start, label_selector="app=watched", timeout_seconds=30):
            seen.append(event["type"])
            if len(seen) == 3:
                break
        self.assertEqual(seen, ["ADDED", "DELETED", "ADDED"])

    def test_bookmarks_and_the_end_of_the_initial_list(self):
        self.create("a")
        options = {
            "send_initial_events": True, "resource_version_match": "NotOlderThan", "allow_watch_bookmarks": True,
        }
        seen = []
        for event in self.watched(timeout_seconds=30, **options):
            seen.append(event["type"])
            if event["type"] == "BOOKMARK":
                note = event["raw_object"]["metadata"]["annotations"]
                self.assertEqual(note, {"k8s.io/initial-events-end": "true"})
                break
        self.assertEqual(seen, ["ADDED", "BOOKMARK"])

    def test_a_version_of_the_future_is_refused(self):
        with self.assertRaises(ApiException) as caught:
            self.core.list_namespaced_config_map(
                self.namespace, resource_version="999999999", resource_version_match="NotOlderThan", timeout_seconds=1
            )
        self.assertEqual(caught.exception.status, 504)

    def test_an_informer_keeps_up(self):
        self.create("a", {"k": "1"})
        informer = SharedInformer(self.core.list_namespaced_config_map, namespace=self.namespace)
        seen = []
        changed = threading.Condition()

        def note(kind):
            def handle(thing):
                with changed:
                    seen.append((kind, thing.metadata.name))
                    changed.notify()
            return handle

        for kind in ["ADDED", "MODIFIED", "DELETED"]:
            informer.add_event_handler(kind, note(kind))
        informer.start()
        try:
            with changed:
                self.assertTrue(changed.wait_for(lambda: ("ADDED", "a") in seen, 30))
            self.core.patch_namespaced_config_map("a", self.namespace, {"data": {"k": "2"}})
            with changed:
                self.assertTrue(changed.wait_for(lambda: ("MODIFIED", "a") in seen, 30))
            self.assertEqual(informer.cache.get_by_key(f"{self.namespace}/a").data, {"k": "2"})
            self.core.delete_namespaced_config_map("a", self.namespace)
            with changed:
                self.assertTrue(changed.wait_for(lambda: ("DELETED", "a") in seen, 30))
            self.assertEqual(informer.cache.list(), [])
        finally:
            informer.stop()

    def test_one_leads(self):
        leading = threading.Event()
        lock = ConfigMapLock("leader", self.namespace, "one")
        settings = electionconfig.Config(
            lock, lease_duration=3, renew_deadline=2, retry_period=1,
            onstarted_leading=leading.set, onstopped_leading=None,
        )
        threading.Thread(target=leaderelection.LeaderElection(settings).run, daemon=True).start()
        self.assertTrue(leading.wait(30))
        record = self.core.read_namespaced_config_map("leader", self.namespace).metadata.annotations
        self.assertIn('"one"', record["control-plane.alpha.kubernetes.io/leader"])
