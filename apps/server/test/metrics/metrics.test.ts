import { describe, expect, test } from 'vitest';
import { createApp, RequestQueue } from '../../src/index.js';
import { EchoEngine } from '../echo-engine.js';
import { until } from '../until.js';

class MeasuredEngine extends EchoEngine {
  async memory() {
    return { usedBytes: 25, maxBytes: 100 };
  }
}

function setUp(engine = new EchoEngine()) {
  const queue = new RequestQueue({ maxRunning: 1, maxQueued: 2 });
  const app = createApp({ engine, queue });
  const ask = (content: string, more: object = {}, headers: Record<string, string> = {}) =>
    app.request('/v1/chat/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ model: 'echo', messages: [{ role: 'user', content }], ...more }),
    });
  return { app, engine, queue, ask, samples: async () => parse(await (await app.request('/metrics')).text()) };
}

/** Values by `name{labels}`, of Prometheus' text format; a line that is none fails. */
function parse(page: string): Map<string, number> {
  const samples = new Map<string, number>();
  for (const line of page.split('\n').filter((one) => one !== '' && !one.startsWith('#'))) {
    const [, name, value] = /^([a-zA-Z_:][\w:]*(?:\{(?:\w+="[^"\\]*",?)+\})?) (\S+)$/.exec(line) ?? [];
    expect(name, line).toBeDefined();
    samples.set(name!, Number(value));
  }
  return samples;
}

const labels = 'model_name="echo",caller="anyone"';

describe('/metrics', () => {
  test('is in the text format, with a type and a help for each family', async () => {
    const { app, ask } = setUp(new MeasuredEngine());
    await ask('hi');
    const response = await app.request('/metrics');
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    const page = await response.text();
    const families = (kind: string) =>
      [...page.matchAll(new RegExp(`^# ${kind} (\\S+) .+`, 'gm'))].map(([, name]) => name);
    expect(families('TYPE')).toEqual(families('HELP'));
    expect(families('TYPE').every((name) => name!.startsWith('ctkvr:'))).toBe(true);
    expect(families('TYPE')).toHaveLength(15);
  });

  test('counts requests that run and wait, and the share of memory in use', async () => {
    const { engine, queue, ask, samples } = setUp(new MeasuredEngine());
    const hanging = ask('!hang', { stream: true });
    await until(() => engine.numOpen === 1);
    const waiting = await ask('hi', { stream: true });
    await until(() => queue.numQueued === 1);
    const busy = await samples();
    expect(busy.get('ctkvr:num_requests_running{model_name="echo"}')).toBe(1);
    expect(busy.get('ctkvr:num_requests_waiting{model_name="echo"}')).toBe(1);
    expect(busy.get('ctkvr:kv_cache_usage_perc{model_name="echo"}')).toBe(0.25);
    await (await hanging).body!.cancel();
    await waiting.text();
    const idle = await samples();
    expect(idle.get('ctkvr:num_requests_running{model_name="echo"}')).toBe(0);
    expect(idle.get('ctkvr:num_requests_waiting{model_name="echo"}')).toBe(0);
  });

  test('an engine that does not know its memory has no such gauge', async () => {
    const names = [...(await setUp().samples()).keys()].join();
    expect(names).not.toContain('kv_cache_usage_perc');
  });

  test('counts tokens and times of what was answered, whole or streamed', async () => {
    const { ask, samples } = setUp();
    await ask('one two three');
    await (await ask('one two', { stream: true })).text();
    const all = await samples();
    expect(all.get(`ctkvr:prompt_tokens_total{${labels}}`)).toBe(5);
    expect(all.get(`ctkvr:generation_tokens_total{${labels}}`)).toBe(5);
    expect(all.get(`ctkvr:prefix_cache_queries_total{${labels}}`)).toBe(5);
    expect(all.get(`ctkvr:prefix_cache_hits_total{${labels}}`)).toBe(0);
    expect(all.get(`ctkvr:request_success_total{${labels},finished_reason="stop"}`)).toBe(2);
    const count = (name: string) => all.get(`ctkvr:${name}_seconds_count{model_name="echo"}`);
    expect(count('time_to_first_token')).toBe(2);
    expect(count('inter_token_latency')).toBe(3);
    expect(count('e2e_request_latency')).toBe(2);
    expect(count('request_queue_time')).toBe(2);
  });

  test('says why requests ended: cut, left by the client, refused, failed', async () => {
    const { engine, ask, samples } = setUp();
    await ask('one two', { max_tokens: 1 });
    await ask('!fail');
    await ask('hi', { no_such_field: 1 });
    const left = await ask('one !hang', { stream: true });
    await left.body!.cancel();
    await until(() => engine.numOpen === 0);
    const all = await samples();
    expect(all.get(`ctkvr:request_success_total{${labels},finished_reason="length"}`)).toBe(1);
    expect(all.get(`ctkvr:request_success_total{${labels},finished_reason="abort"}`)).toBe(1);
    expect(all.get(`ctkvr:request_failure_total{${labels},code="internal_error"}`)).toBe(1);
    // What is refused before its model is known has none.
    const refused = `model_name="",${labels.slice(labels.indexOf(',') + 1)},code="unknown_parameter"`;
    expect(all.get(`ctkvr:request_failure_total{${refused}}`)).toBe(1);
  });
});

describe('x-ctkvr-max-wait', () => {
  test('who would not wait longer learns so, while others wait on', async () => {
    const { engine, queue, ask } = setUp();
    const hanging = ask('!hang', { stream: true });
    await until(() => engine.numOpen === 1);
    const patient = ask('hi');
    await until(() => queue.numQueued === 1);
    const late = await ask('hi', {}, { 'x-ctkvr-max-wait': '0.01' });
    expect(late.status).toBe(429);
    expect(await late.json()).toMatchObject({ error: { code: 'queue_timeout' } });
    expect(queue.numQueued).toBe(1);
    await (await hanging).body!.cancel();
    expect((await patient).status).toBe(200);
  });

  test.each(['', '0', '-1', 'soon', '1e9', 'Infinity'])('%j is refused with its name', async (given) => {
    const { ask } = setUp();
    const response = await ask('hi', {}, { 'x-ctkvr-max-wait': given });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { code: 'invalid_value', param: 'x-ctkvr-max-wait' } });
  });
});

describe('x-request-id', () => {
  test('the client’s is kept when it is plain, else there is a new one; answers and errors have it', async () => {
    const { app, ask } = setUp();
    expect((await ask('hi', {}, { 'x-request-id': 'a.b:c-1' })).headers.get('x-request-id')).toBe('a.b:c-1');
    const error = await app.request('/v1/nothing', { headers: { 'x-request-id': 'mine' } });
    expect([error.status, error.headers.get('x-request-id'), error.headers.get('request-id')]).toEqual([
      404,
      'mine',
      'mine',
    ]);
    const made = new Set<string | null>();
    for (const given of ['', 'two words', '"quoted"', 'x'.repeat(129)]) {
      made.add((await ask('hi', { stream: true }, { 'x-request-id': given })).headers.get('x-request-id'));
    }
    expect(made.size).toBe(4);
    for (const id of made) expect(id).toMatch(/^[0-9a-f-]{36}$/);
  });
});
