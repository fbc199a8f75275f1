// Typed objects: written, read, patched by each content type, refused; custom ones by kind.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ApiException, ApiextensionsV1Api, AppsV1Api, CoreV1Api, KubeConfig, KubernetesObjectApi, PatchStrategy,
  VersionApi, setHeaderOptions,
} from '@kubernetes/client-node';

const config = new KubeConfig();
config.loadFromFile(process.env.KUBECONFIG);
const core = config.makeApiClient(CoreV1Api);
const apps = config.makeApiClient(AppsV1Api);
const namespace = 'default';

const refused = async (promise, code, reason) => {
  const error = await promise.then(() => assert.fail('it was not refused'), (error) => error);
  assert.ok(error instanceof ApiException, String(error));
  const status = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
  assert.deepEqual([error.code, status.reason], [code, reason]);
  return status;
};

test('the configuration and the version', async () => {
  assert.equal(config.getCurrentContext(), 'c');
  const version = await config.makeApiClient(VersionApi).getCode();
  assert.deepEqual([version.major, version.minor], ['1', '36']);
});

test('objects are written and read', async () => {
  const body = { metadata: { name: 'a', labels: { app: 'x' } }, data: { k: '1' } };
  const made = await core.createNamespacedConfigMap({ namespace, body });
  assert.ok(made.metadata.creationTimestamp instanceof Date);
  const read = await core.readNamespacedConfigMap({ name: 'a', namespace });
  assert.deepEqual(read, made);
  const replaced = await core.replaceNamespacedConfigMap({ name: 'a', namespace, body: { ...read, data: { k: '2' } } });
  assert.equal(replaced.data.k, '2');
  await refused(core.replaceNamespacedConfigMap({ name: 'a', namespace, body: made }), 409, 'Conflict');
  await refused(core.createNamespacedConfigMap({ namespace, body }), 409, 'AlreadyExists');
  const list = await core.listNamespacedConfigMap({ namespace, labelSelector: 'app in (x, y)' });
  assert.deepEqual(list.items.map((one) => one.metadata.name), ['a']);
  assert.equal((await core.deleteNamespacedConfigMap({ name: 'a', namespace })).status, 'Success');
  const status = await refused(core.readNamespacedConfigMap({ name: 'a', namespace }), 404, 'NotFound');
  assert.equal(status.message, 'configmaps "a" not found');
});

test('secrets and services have their defaults', async () => {
  const secret = await core.createNamespacedSecret({
    namespace, body: { metadata: { name: 's' }, stringData: { key: 'value' } },
  });
  assert.deepEqual([secret.type, secret.data, secret.stringData], ['Opaque', { key: 'dmFsdWU=' }, undefined]);
  const service = await core.createNamespacedService({
    namespace, body: { metadata: { name: 'web' }, spec: { selector: { app: 'web' }, ports: [{ port: 80 }] } },
  });
  assert.deepEqual([service.spec.type, service.spec.ports[0].targetPort], ['ClusterIP', 80]);
  assert.match(service.spec.clusterIP, /^\d+\.\d+\.\d+\.\d+$/);
});

test('lists come in pages', async () => {
  for (const name of ['x', 'y', 'z']) {
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name, labels: { paged: 'yes' } } } });
  }
  const options = { namespace, labelSelector: 'paged=yes', limit: 2 };
  const page = await core.listNamespacedConfigMap(options);
  assert.deepEqual(page.items.map((one) => one.metadata.name), ['x', 'y']);
  const rest = await core.listNamespacedConfigMap({ ...options, _continue: page.metadata._continue });
  assert.deepEqual(rest.items.map((one) => one.metadata.name), ['z']);
  await core.deleteCollectionNamespacedConfigMap({ namespace, labelSelector: 'paged=yes' });
  assert.deepEqual((await core.listNamespacedConfigMap(options)).items, []);
});

test('patches of each content type', async () => {
  const name = 'patched';
  const containers = [{ name: 'web', image: 'web', env: [{ name: 'A', value: '1' }] }];
  const template = { metadata: { labels: { app: name } }, spec: { containers } };
  await apps.createNamespacedDeployment({
    namespace, body: { metadata: { name }, spec: { selector: { matchLabels: { app: name } }, template } },
  });
  const patch = (media, body, more = {}) =>
    apps.patchNamespacedDeployment({ name, namespace, body, ...more }, setHeaderOptions('Content-Type', media));
  const env = (deployment) => deployment.spec.template.spec.containers[0].env.map((one) => one.name);
  const added = { spec: { template: { spec: { containers: [{ name: 'web', env: [{ name: 'B', value: '2' }] }] } } } };
  assert.deepEqual(env(await patch(PatchStrategy.StrategicMergePatch, added)), ['B', 'A']);
  const operations = [
    { op: 'test', path: '/spec/replicas', value: 1 },
    { op: 'replace', path: '/spec/replicas', value: 3 },
    { op: 'remove', path: '/spec/template/spec/containers/0/env/0' },
  ];
  const operated = await patch(PatchStrategy.JsonPatch, operations);
  assert.deepEqual([operated.spec.replicas, env(operated)], [3, ['A']]);
  await refused(patch(PatchStrategy.JsonPatch, operations), 422, 'Invalid');
  const merged = await patch(PatchStrategy.MergePatch, { metadata: { labels: { a: 'b' } }, spec: { replicas: null } });
  assert.deepEqual([merged.metadata.labels, merged.spec.replicas], [{ a: 'b' }, 1]);
  const applied = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { annotations: { by: 'one' } } };
  await patch(PatchStrategy.ServerSideApply, applied, { fieldManager: 'one' });
  applied.metadata.annotations.by = 'two';
  const status = await refused(patch(PatchStrategy.ServerSideApply, applied, { fieldManager: 'two' }), 409, 'Conflict');
  assert.equal(status.details.causes[0].field, '.metadata.annotations.by');
  const forced = await patch(PatchStrategy.ServerSideApply, applied, { fieldManager: 'two', force: true });
  assert.equal(forced.metadata.annotations.by, 'two');
  const scale = await apps.replaceNamespacedDeploymentScale({
    name, namespace, body: { metadata: { name, namespace }, spec: { replicas: 4 } },
  });
  assert.deepEqual([scale.spec.replicas, scale.status.selector], [4, 'app=patched']);
});

test('custom objects by their kind', async () => {
  const extensions = config.makeApiClient(ApiextensionsV1Api);
  const names = { plural: 'notes', singular: 'note', kind: 'Note' };
  // The client's names of the fields.
  const text = { type: 'string', minLength: 1 };
  const spec = { type: 'object', properties: { text, size: { type: 'integer', _default: 7 } } };
  const status = { type: 'object', x_kubernetes_preserve_unknown_fields: true };
  const objects = KubernetesObjectApi.makeApiClient(config);
  const name = 'notes.node.example.com';
  await objects.create({
    apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', metadata: { name },
    spec: {
      group: 'node.example.com', scope: 'Namespaced', names,
      versions: [{
        name: 'v1', served: true, storage: true,
        schema: { openAPIV3Schema: { type: 'object', properties: { spec, status } } },
      }],
    },
  });
  const deadline = Date.now() + 30_000;
  for (let established = false; !established;) {
    assert.ok(Date.now() < deadline, 'the definition is not established');
    const { conditions } = (await extensions.readCustomResourceDefinition({ name })).status;
    established = conditions?.some((one) => one.type === 'Established' && one.status === 'True');
  }
  const note = { apiVersion: 'node.example.com/v1', kind: 'Note', metadata: { name: 'n', namespace } };
  const made = await objects.create({ ...note, spec: { text: 'a' } });
  assert.deepEqual(made.spec, { text: 'a', size: 7 });
  const bad = await refused(
    objects.create({ ...note, metadata: { name: 'bad', namespace }, spec: { text: '' } }), 422, 'Invalid',
  );
  assert.equal(bad.details.causes[0].field, 'spec.text');
  const patched = await objects.patch(
    { ...note, spec: { size: 8 } }, undefined, undefined, 'node', undefined, PatchStrategy.MergePatch,
  );
  assert.deepEqual([patched.spec, patched.metadata.generation], [{ text: 'a', size: 8 }, 2]);
  const applied = await objects.patch(
    { ...note, spec: { text: 'b' } }, undefined, undefined, 'node', true, PatchStrategy.ServerSideApply,
  );
  assert.deepEqual(applied.spec, { text: 'b', size: 8 });
  assert.deepEqual((await objects.read(note)).spec, applied.spec);
  const replaced = await objects.replace({ ...applied, spec: { text: 'c' } });
  assert.deepEqual(replaced.spec, { text: 'c', size: 7 });
  const list = await objects.list('node.example.com/v1', 'Note', namespace);
  assert.deepEqual(list.items.map((one) => one.metadata.name), ['n']);
  assert.equal((await objects.delete(note)).status, 'Success');
  await refused(objects.read(note), 404, 'NotFound');
});
