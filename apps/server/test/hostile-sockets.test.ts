/** Requests that no HTTP library would send, over real sockets; and streams whose readers leave: nothing fails with a 500, hangs or stays behind. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { RunningServer } from '../src/index.js';
import type { EchoEngine } from './echo-engine.js';
import { startEchoServer } from './echo-server.js';
import { chatBytes, RawClient } from './raw-client.js';
import { until } from './until.js';

let engine: EchoEngine;
let server: RunningServer;
const clients: RawClient[] = [];

beforeEach(async () => {
  ({ engine, server } = await startEchoServer({ maxRunning: 8 }));
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await server.close();
});

function connect(): RawClient {
  const client = new RawClient(server.port);
  clients.push(client);
  return client;
}

/** What the server answers to bytes, and whether it still answers others then. */
async function answerTo(bytes: string): Promise<string> {
  const client = connect();
  client.send(bytes);
  await until(() => client.received.includes('\r\n\r\n') || client.ended);
  expect((await fetch(`${server.url}/health`)).status).toBe(200);
  return client.received;
}

const get = (path: string, headers = 'host: localhost') => `GET ${path} HTTP/1.1\r\n${headers}\r\n\r\n`;

test.each([
  '/v1/models/../../../../etc/passwd',
  '/v1/models/..%2f..%2f..%2fetc%2fpasswd',
  '/v1/models/%2e%2e/%2e%2e/etc/passwd',
  '/v1/models/%00',
  '/v1/models/%ff%fe',
  '/v1/models/%E0%A4%A',
  '/v1/models/%',
  '/v1/models/..\\..\\windows\\win.ini',
  '//v1/models',
  '/v1//models',
  '/../../etc/passwd',
  '/%2e%2e/%2e%2e/etc/passwd',
  '/v1/models/file:///etc/passwd',
  '/.git/config',
  '/package.json',
  '/node_modules/hono/package.json',
  `/${'a/'.repeat(3000)}`,
  '/v1/models/echo;x=1',
  '/v1/models/constructor',
  '/v1/models/__proto__',
  'http://example.com/v1/models',
  '*',
])('nothing of the machine is behind the path %.60j', async (path) => {
  const received = await answerTo(get(path));
  expect(received).toMatch(/^HTTP\/1\.1 4\d\d /);
  expect(received).not.toMatch(/root:|"dependencies"|\[core\]/);
});

test.each([
  'host: [::1',
  'host: a b',
  'host: localhost:99999999',
  'host: %00',
  'host: localhost@example.com',
  'host: localhost\r\norigin: null',
  'host: localhost\r\norigin: http://[',
  'host: localhost\r\norigin: file:///etc/passwd',
  'x: y',
  'host: example.com\r\nhost: localhost',
])('the headers %j are refused', async (headers) => {
  expect(await answerTo(get('/health', headers))).toMatch(/^HTTP\/1\.1 4\d\d /);
});

const post = (headers: string, body = '') =>
  `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n${headers}\r\n\r\n${body}`;

test.each([
  ['a body that is longer than it says', post('content-length: 1', '{"model":"echo"}')],
  ['a negative length', post('content-length: -1', '{}')],
  ['a length that is no number', post('content-length: 1e3', '{}')],
  ['two lengths', post('content-length: 2\r\ncontent-length: 3', '{}')],
  ['length and chunks', post('content-length: 2\r\ntransfer-encoding: chunked', '2\r\n{}\r\n0\r\n\r\n')],
  ['chunks that are none', post('transfer-encoding: chunked', 'zz\r\n{}\r\n')],
  ['a compressed body', post('content-encoding: gzip\r\ncontent-length: 4', '\u001f\u008b\b')],
  ['a body that is said to be huge', post('content-length: 99999999999')],
  ['bytes that are no request', '\u0000\u0001\u0002\u0003\r\n\r\n'],
  ['a TLS hello', '\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00fc\u0003\u0003\r\n\r\n'],
  ['an HTTP/2 preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['headers without end', `${get('/health', `host: localhost\r\nx: ${'y'.repeat(40_000)}`)}`],
])('%s is refused', async (_name, bytes) => {
  expect(await answerTo(bytes)).toMatch(/^HTTP\/1\.1 4\d\d /);
  expect(engine.numOpen).toBe(0);
});

test('300 streams whose readers leave anywhere leave nothing running', async () => {
  const words = 'one two three four five six seven eight';
  let left = 0;
  const leave = async (n: number) => {
    const client = new RawClient(server.port);
    client.send(chatBytes(n % 3 === 0 ? `${words} !hang` : words, { stream: true, n: 1 + (n % 2) }));
    const bytes = (n * 97) % 1500; // of the response, which has more before it hangs; 0: at once
    await until(() => client.received.length >= bytes || client.received.endsWith('0\r\n\r\n'));
    if (n % 5 === 0) client.halfClose();
    else if (n % 5 === 1) client.reset();
    else client.close();
    left += 1;
    await until(() => client.ended);
    client.close();
  };
  for (let n = 0; n < 300; n += 20) await Promise.all(Array.from({ length: 20 }, (_, k) => leave(n + k)));
  expect(left).toBe(300);
  await until(() => engine.numOpen === 0);
  const { running, queued } = (await (await fetch(`${server.url}/health`)).json()) as Record<string, number>;
  expect([running, queued]).toEqual([0, 0]);
}, 120_000);
