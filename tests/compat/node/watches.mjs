// Watches: taken up again where they ended, ended in time; and an informer.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CoreV1Api, KubeConfig, PatchStrategy, Watch, makeInformer, setHeaderOptions } from '@kubernetes/client-node';

const config = new KubeConfig();
config.loadFromFile(process.env.KUBECONFIG);
const core = config.makeApiClient(CoreV1Api);

const space = async (namespace) => {
  await core.createNamespace({ body: { metadata: { name: namespace } } });
  return {
    path: `/api/v1/namespaces/${namespace}/configmaps`,
    list: () => core.listNamespacedConfigMap({ namespace }),
    create: (name, data) => core.createNamespacedConfigMap({ namespace, body: { metadata: { name }, data } }),
    change: (name, body) =>
      core.patchNamespacedConfigMap(
        { name, namespace, body }, setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
      ),
    remove: (name) => core.deleteNamespacedConfigMap({ name, namespace }),
  };
};

// Watches until an event is the last wanted; gives all events, and why the watch ended.
const watched = (path, query, isLast = () => false) =>
  new Promise((resolve, reject) => {
    const events = [];
    const late = setTimeout(() => reject(new Error(`in vain: ${JSON.stringify(events)}`)), 30_000);
    let request;
    const end = (why) => {
      clearTimeout(late);
      resolve({ events, why });
    };
    const note = (type, object) => {
      events.push([type, object.metadata?.name ?? object]);
      if (isLast(type, object)) {
        end(null);
        request.then((controller) => controller.abort());
      }
    };
    request = new Watch(config).watch(path, query, note, end);
    request.catch(reject);
  });

test('a watch goes on where it ended', async () => {
  const { path, list, create, remove } = await space('resumed');
  await create('a');
  const first = await watched(path, {}, () => true);
  assert.deepEqual(first.events, [['ADDED', 'a']]);
  const { resourceVersion } = (await list()).metadata;
  await create('b');
  await remove('a');
  const { events } = await watched(path, { resourceVersion }, (type) => type === 'DELETED');
  assert.deepEqual(events, [['ADDED', 'b'], ['DELETED', 'a']]);
});

test('a watch ends in time, and has bookmarks', async () => {
  const { path, create } = await space('timed');
  await create('a');
  const { events, why } = await watched(path, { timeoutSeconds: 1 });
  assert.deepEqual(events, [['ADDED', 'a']]);
  assert.ok(why === null || why === Watch.SERVER_SIDE_CLOSE, String(why));
  const options = { sendInitialEvents: true, resourceVersionMatch: 'NotOlderThan', allowWatchBookmarks: true };
  const streamed = await watched(path, options, (type) => type === 'BOOKMARK');
  assert.deepEqual(streamed.events.map(([type]) => type), ['ADDED', 'BOOKMARK']);
});

test('what cannot be watched is refused', async () => {
  const { why } = await watched('/api/v1/nothings', {});
  assert.equal(why.statusCode, 404);
  const none = await watched('/api/v1/namespaces/default/configmaps', { labelSelector: '!!' });
  assert.equal(none.why.statusCode, 400);
});

test('an informer keeps up', async () => {
  const { path, list, create, change, remove } = await space('informed');
  await create('a', { k: '1' });
  const informer = makeInformer(config, path, list);
  const waiting = new Map();
  const seen = (verb, name) =>
    new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`no ${verb} of ${name}`)), 30_000);
      waiting.set(`${verb} ${name}`, (object) => {
        clearTimeout(late);
        resolve(object);
      });
    });
  for (const verb of ['add', 'update', 'delete']) {
    informer.on(verb, (object) => waiting.get(`${verb} ${object.metadata.name}`)?.(object));
  }
  let over = false;
  informer.on('error', (error) => assert.ok(over, String(error)));
  let next = seen('add', 'a');
  await informer.start();
  await next;
  next = seen('add', 'b');
  await create('b');
  await next;
  next = seen('update', 'a');
  await change('a', { data: { k: '2' } });
  assert.equal((await next).data.k, '2');
  assert.equal(informer.get('a', 'informed').data.k, '2');
  next = seen('delete', 'a');
  await remove('a');
  await next;
  assert.deepEqual(informer.list('informed').map((one) => one.metadata.name), ['b']);
  over = true;
  await informer.stop();
});
