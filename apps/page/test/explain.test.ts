import { expect, test } from 'vitest';
import { explain } from '../src/server/explain.js';
import { readServerError, ServerError } from '../src/server/server-error.js';

test.each([
  [new TypeError('Failed to fetch'), 'The server cannot be reached.', /still runs/],
  [new ServerError('Too long.', { status: 400, code: 'context_length_exceeded' }), 'Too long.', /shorter text/],
  [new ServerError('Busy.', { status: 429, retryAfter: 7 }), 'Busy.', /in 7 s/],
  [new ServerError('Lost.', { status: 503, code: 'device_lost' }), 'Lost.', /started again/],
  [new ServerError('Odd.', { status: 418 }), 'Odd.', /log of the server/],
])('%s has a remedy', (error, what, remedy) => {
  const failure = explain(error);
  expect(failure.what).toBe(what);
  expect(failure.remedy).toMatch(remedy);
});

test('an error of the server is read with its code and the time to wait', async () => {
  const body = JSON.stringify({ error: { message: 'Wait.', code: 'queue_full' } });
  const error = await readServerError(new Response(body, { status: 429, headers: { 'retry-after': '2' } }));
  expect(error).toMatchObject({ message: 'Wait.', code: 'queue_full', status: 429, retryAfter: 2 });
});

test('an answer that is no JSON is told by its status', async () => {
  const error = await readServerError(new Response('<html>Bad gateway</html>', { status: 502 }));
  expect(error).toMatchObject({ message: 'The server answered with status 502.', code: null, status: 502 });
});
