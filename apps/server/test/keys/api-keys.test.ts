import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { pino } from 'pino';
import { afterEach, describe, expect, test } from 'vitest';
import { type ApiKey, addApiKey, createApp, listen, makeApiKey, RequestQueue, readApiKeys } from '../../src/index.js';
import { EchoEngine } from '../echo-engine.js';
import { until } from '../until.js';

function setUp(more: Partial<ApiKey> = {}) {
  const [alice, bob] = [makeApiKey('alice'), makeApiKey('bob')];
  const engine = new EchoEngine();
  const logged: Record<string, unknown>[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => logged.push(JSON.parse(line)) });
  const queue = new RequestQueue({ maxRunning: 1, maxQueued: 4 });
  const app = createApp({ engine, queue, logger, apiKeys: [{ ...alice.entry, ...more }, bob.entry] });
  const ask = (headers: Record<string, string>, body: object = {}, path = '/v1/chat/completions') =>
    app.request(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ model: 'echo', messages: [{ role: 'user', content: 'hi' }], ...body }),
    });
  return { app, ask, engine, logged, queue, alice: alice.key, bob: bob.key };
}

const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

describe('a server with API keys', () => {
  test('answers who has one, in either header', async () => {
    const { ask, alice, bob } = setUp();
    expect((await ask(bearer(alice))).status).toBe(200);
    expect((await ask({ authorization: `bearer  ${bob} ` })).status).toBe(200);
    expect((await ask({ 'x-api-key': alice })).status).toBe(200);
  });

  test.each([
    ['no key', {}],
    ['a wrong key', bearer('ctkvr-wrong')],
    ['another scheme', { authorization: 'Basic YTpi' }],
    ['an empty key', { authorization: 'Bearer ' }],
  ])('refuses %s with 401, in the shape of the protocol, and runs nothing', async (_, headers) => {
    const { ask, engine } = setUp();
    const response = await ask(headers as Record<string, string>);
    expect([response.status, response.headers.get('www-authenticate')]).toEqual([401, 'Bearer']);
    expect(await response.json()).toMatchObject({ error: { type: 'invalid_request_error', code: 'invalid_api_key' } });
    const anthropic = await ask(headers as Record<string, string>, { max_tokens: 5 }, '/v1/messages');
    expect(anthropic.status).toBe(401);
    expect(await anthropic.json()).toMatchObject({ type: 'error', error: { type: 'authentication_error' } });
    expect(engine.lastRequest).toBeNull();
  });

  test('a part of a key, its hash, and what follows a key are not the key', async () => {
    const { ask, alice } = setUp();
    for (const wrong of [alice.slice(0, -1), `${alice}x`, makeApiKey('alice').key, alice.toUpperCase()]) {
      expect((await ask(bearer(wrong))).status).toBe(401);
    }
  });

  test('every route but those of load balancers wants one', async () => {
    const { app, alice } = setUp();
    for (const path of ['/health', '/ready', '/openapi.json', '/']) expect((await app.request(path)).status).toBe(200);
    for (const path of ['/v1/models', '/props', '/metrics']) {
      expect((await app.request(path)).status).toBe(401);
      expect((await app.request(path, { headers: bearer(alice) })).status).toBe(200);
    }
    for (const path of ['/tokenize', '/v1/messages/count_tokens', '/v1/nothing']) {
      expect((await app.request(path, { method: 'POST' })).status).toBe(401);
    }
  });

  test('a preflight request, which never has a key, is answered', async () => {
    const { app } = setUp();
    const headers = { origin: 'http://localhost:3000', 'access-control-request-method': 'POST' };
    const response = await app.request('/v1/chat/completions', { method: 'OPTIONS', headers });
    expect([response.status, response.headers.get('access-control-allow-origin')]).toEqual([204, headers.origin]);
  });

  test('keys do not share kept prompts, with the same salt or none', async () => {
    const { ask, engine, alice, bob } = setUp();
    const namespaces = new Set<string>();
    for (const key of [alice, bob]) {
      for (const salt of [{}, { cache_salt: 's' }]) {
        await ask(bearer(key), salt);
        namespaces.add(engine.lastRequest!.cacheSalt);
      }
    }
    expect(namespaces.size).toBe(4);
    await ask(bearer(alice));
    expect(namespaces).toContain(engine.lastRequest!.cacheSalt);
  });

  test('the log names who asked, and never the key', async () => {
    const { ask, logged, alice } = setUp();
    await ask({ ...bearer(alice), 'x-request-id': 'trace-7' });
    expect(logged.at(-1)).toMatchObject({ msg: 'ended', caller: 'alice', requestId: 'trace-7' });
    expect(JSON.stringify(logged)).not.toContain(alice);
  });

  test('one key runs and waits no more than it may; the others have their places', async () => {
    const { ask, engine, queue, alice, bob } = setUp({ maxQueued: 1 });
    const hanging = ask(bearer(alice), { messages: [{ role: 'user', content: '!hang' }], stream: true });
    await until(() => engine.numOpen === 1);
    const waits = ask(bearer(alice), { stream: true });
    await until(() => queue.numQueued === 1);
    const refused = await ask(bearer(alice));
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '2']);
    expect(await refused.json()).toMatchObject({
      error: { code: 'queue_full', message: expect.stringContaining('1 that wait of alice') },
    });
    const others = ask(bearer(bob));
    await until(() => queue.numQueued === 2);
    await (await hanging).body!.cancel();
    expect((await others).status).toBe(200);
    expect(await (await waits).text()).toContain('[DONE]');
  });
});

describe('official clients', () => {
  test('throw their authentication errors', async () => {
    const { entry, key } = makeApiKey('me');
    const logger = pino({ level: 'silent' });
    await using server = await listen(new EchoEngine(), { port: 0, handleSignals: false, logger, apiKeys: [entry] });
    const openai = (apiKey: string) => new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0 });
    const anthropic = (apiKey: string) => new Anthropic({ baseURL: server.url, apiKey, maxRetries: 0 });
    const messages = [{ role: 'user' as const, content: 'hello' }];
    await expect(openai('x').chat.completions.create({ model: 'echo', messages })).rejects.toThrow(
      OpenAI.AuthenticationError,
    );
    await expect(anthropic('x').messages.create({ model: 'echo', max_tokens: 9, messages })).rejects.toThrow(
      Anthropic.AuthenticationError,
    );
    const answer = await openai(key).chat.completions.create({ model: 'echo', messages });
    expect(answer.choices[0]?.message.content).toBe('hello ');
    expect(await anthropic(key).messages.create({ model: 'echo', max_tokens: 9, messages })).toMatchObject({
      content: [{ type: 'text', text: 'hello ' }],
    });
  });
});

describe('a file of keys', () => {
  const folders: string[] = [];
  afterEach(async () => {
    await Promise.all(folders.splice(0).map((folder) => rm(folder, { recursive: true })));
  });
  const newFile = async () => {
    const folder = await mkdtemp(join(tmpdir(), 'ctkvr-keys-'));
    folders.push(folder);
    return join(folder, 'keys.json');
  };

  test('is made for the first key, readable for its owner alone, and grows by the next', async () => {
    const path = await newFile();
    const [a, b] = [makeApiKey('a'), makeApiKey('b')];
    await addApiKey(path, a.entry);
    await addApiKey(path, b.entry);
    expect(await readApiKeys(path)).toEqual([a.entry, b.entry]);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readFile(path, 'utf8')).not.toContain(a.key);
    await expect(addApiKey(path, makeApiKey('a').entry)).rejects.toMatchObject({ code: 'CTKVR_INVALID_OPTION' });
    expect(await readApiKeys(path)).toHaveLength(2);
  });

  test.each([
    ['{}', 'CTKVR_INVALID_OPTION', /keys\.json: .*must be a list/],
    ['[{', 'CTKVR_FILE_UNREADABLE', /keys\.json must be JSON/],
    ['[1]', 'CTKVR_INVALID_OPTION', /apiKeys\[0\]/],
    ['[{"name":"a"}]', 'CTKVR_INVALID_OPTION', /apiKeys\[0\]: sha256 must be .*64 hexadecimal digits/],
    ['[{"name":"a b","sha256":"00"}]', 'CTKVR_INVALID_OPTION', /name must be/],
    [`[{"name":"a","sha256":"${'0'.repeat(64)}","wieght":1}]`, 'CTKVR_INVALID_OPTION', /did you mean weight/],
    [`[{"name":"a","sha256":"${'0'.repeat(64)}","maxRunning":0}]`, 'CTKVR_INVALID_OPTION', /maxRunning must be/],
    [
      `[{"name":"a","sha256":"${'a'.repeat(64)}"},{"name":"b","sha256":"${'A'.repeat(64)}"}]`,
      'CTKVR_INVALID_OPTION',
      /same name or hash/,
    ],
  ])('that is not as it must be is refused, with what is wrong: %s', async (text, code, message) => {
    const path = await newFile();
    await writeFile(path, text);
    await expect(readApiKeys(path)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    await expect(addApiKey(path, makeApiKey('new').entry)).rejects.toMatchObject({ code });
    expect(await readFile(path, 'utf8')).toBe(text);
  });

  test('that is not there is named', async () => {
    await expect(readApiKeys(await newFile())).rejects.toMatchObject({ code: 'CTKVR_FILE_NOT_FOUND' });
  });
});
