/** GET /openapi.json: a valid document, of the routes that there are. */
import { Validator } from '@seriousme/openapi-schema-validator';
import { expect, test } from 'vitest';
import { createApp } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';
import { FakeSessions } from './fake-sessions.js';

interface RequestBody {
  readonly content: { readonly 'application/json'?: { readonly schema: object; readonly example?: object } };
}

class EngineWithSessions extends EchoEngine {
  readonly sessions = new FakeSessions();
}

const app = createApp({ engine: new EngineWithSessions() });

async function document() {
  return (await (await app.request('/openapi.json')).json()) as {
    paths: Record<string, Record<string, { operationId: string; requestBody?: RequestBody }>>;
  };
}

test('is valid OpenAPI 3.1', async () => {
  const validator = new Validator();
  expect(await validator.validate(await document())).toEqual({ valid: true });
  expect(validator.version).toBe('3.1');
});

test('has every route and no other', async () => {
  const { paths } = await document();
  const told = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const served = app.routes
    .filter(({ method, path }) => method !== 'ALL' && path !== '/' && !path.startsWith('/assets/')) // the page's
    .map(({ method, path }) => `${method} ${path.replace(/:(\w+)(\{.*\})?/, '{$1}')}`);
  expect(told.sort()).toEqual(served.sort());
  const ids = Object.values(paths).flatMap((methods) => Object.values(methods).map(({ operationId }) => operationId));
  expect(new Set(ids).size).toBe(ids.length);
});

test('its examples are answered', async () => {
  const { paths } = await document();
  const examples = Object.entries(paths).flatMap(([path, { post }]) => {
    const example = post?.requestBody?.content['application/json']?.example;
    return example === undefined ? [] : [{ path, example }];
  });
  expect(examples.length).toBeGreaterThanOrEqual(8);
  for (const { path, example } of examples) {
    const headers = { 'content-type': 'application/json' };
    const response = await app.request(path, { method: 'POST', headers, body: JSON.stringify(example) });
    expect([path, response.status]).toEqual([path, path === '/v1/sessions' ? 202 : 200]);
  }
});

test('tells of a field what the check of requests does', async () => {
  const { paths } = await document();
  expect(paths['/v1/chat/completions']?.post?.requestBody).toMatchObject({
    content: {
      'application/json': {
        schema: {
          required: ['model', 'messages'],
          additionalProperties: false,
          properties: {
            temperature: { anyOf: [{ type: 'number', minimum: 0, maximum: 2 }, { type: 'null' }] },
            n: { anyOf: [{ type: 'integer', minimum: 1, maximum: 16 }, { type: 'null' }] },
            best_of: { enum: [1, null] },
            user: { description: 'Ignored: a label.' },
          },
        },
      },
    },
  });
});
