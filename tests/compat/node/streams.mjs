// Streams over WebSocket: a command in a pod with its input, and a port of one; logs.

import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { CoreV1Api, Exec, KubeConfig, Log, PortForward } from '@kubernetes/client-node';

const config = new KubeConfig();
config.loadFromFile(process.env.KUBECONFIG);

const exec = async (command, stdin = null) => {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const said = Promise.all([text(stdout), text(stderr)]);
  const status = await new Promise((resolve, reject) => {
    new Exec(config).exec('default', 'p', 'main', command, stdout, stderr, stdin, false, resolve).then((socket) => {
      socket.on('error', reject);
      socket.on('close', () => {
        stdout.end();
        stderr.end();
      });
    }, reject);
  });
  return [status, ...(await said)];
};

test('a command says what it has to', async () => {
  const [status, stdout, stderr] = await exec(['sh', '-c', 'echo out; echo err >&2; exit 7']);
  assert.deepEqual([stdout, stderr], ['out\n', 'err\n']);
  assert.deepEqual([status.status, status.reason], ['Failure', 'NonZeroExitCode']);
  assert.deepEqual(status.details.causes, [{ reason: 'ExitCode', message: '7' }]);
});

test('a command reads its input', async () => {
  const [status, stdout] = await exec(['sh', '-c', 'read line; echo got $line'], Readable.from(['this\n']));
  assert.deepEqual([status.status, stdout], ['Success', 'got this\n']);
});

test('a port is forwarded', async () => {
  const page = http.createServer((_, response) => response.end('hello'));
  await new Promise((resolve) => page.listen(0, '127.0.0.1', resolve));
  const forward = new PortForward(config);
  const local = net.createServer((socket) => {
    forward.portForward('default', 'p', [page.address().port], socket, null, socket);
  });
  await new Promise((resolve) => local.listen(0, '127.0.0.1', resolve));
  const request = { host: '127.0.0.1', port: local.address().port, agent: false, headers: { connection: 'close' } };
  const answer = await new Promise((resolve, reject) => {
    http.get(request, resolve).on('error', reject);
  });
  assert.equal(await text(answer), 'hello');
  page.close();
  local.close();
});

test('logs', async () => {
  const core = config.makeApiClient(CoreV1Api);
  assert.equal(await core.readNamespacedPodLog({ name: 'p', namespace: 'default' }), 'one\ntwo\nthree\n');
  const last = new PassThrough();
  await new Log(config).log('default', 'p', 'main', last, { tailLines: 1, follow: true });
  assert.equal(await text(last), 'three\n');
});
