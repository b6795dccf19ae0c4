/** A server that other machines reach: which names it answers to, and that it says when anybody may call. */
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { createApp, listen, makeApiKey } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';

describe('the names of a server on an open address', () => {
  const ask = (host: string, allowedHosts?: readonly string[]) =>
    createApp({ engine: new EchoEngine(), localOnly: false, allowedHosts }).request(`http://${host}/v1/models`);

  test('are any, unless its operator names them', async () => {
    expect((await ask('any.example')).status).toBe(200);
    for (const host of ['llm.example', 'llm.example:8080', 'localhost']) {
      expect((await ask(host, ['llm.example'])).status).toBe(200);
    }
    const refused = await ask('rebound.example', ['llm.example']);
    expect(refused.status).toBe(403);
    expect(await refused.json()).toMatchObject({
      error: { code: 'forbidden_host', message: expect.stringContaining('--allow-host rebound.example') },
    });
  });
});

describe('whoever may call', () => {
  const warnings = async (host: string, withKey: boolean) => {
    const lines: { level: number; msg: string }[] = [];
    const logger = pino({ level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line)) });
    const apiKeys = withKey ? [makeApiKey('me').entry] : undefined;
    await using _ = await listen(new EchoEngine(), { host, port: 0, handleSignals: false, logger, apiKeys });
    return lines.filter(({ level }) => level === 40).map(({ msg }) => msg);
  };

  test('is warned of on an open address without keys, and only there', async () => {
    expect(await warnings('0.0.0.0', false)).toEqual([expect.stringContaining('no API keys')]);
    expect(await warnings('0.0.0.0', true)).toEqual([]);
    expect(await warnings('127.0.0.1', false)).toEqual([]);
  });
});

test('a text that is too large to be counted is refused before it is read', async () => {
  const app = createApp({ engine: new EchoEngine() });
  for (const path of ['/tokenize', '/detokenize', '/apply-template', '/v1/messages/count_tokens']) {
    const headers = { 'content-type': 'application/json', 'content-length': String(5 << 20) };
    expect((await app.request(path, { method: 'POST', headers, body: '{}' })).status).toBe(413);
  }
});
