import { readServerError } from './server-error.js';

const KEY = 'ctkvr.api-key';

/** Kept until the tab is closed, and sent with each request from now on. */
export function setApiKey(key: string): void {
  sessionStorage.setItem(KEY, key);
}

/** Asks the server. @throws {ServerError} when the answer is an error; TypeError when there is none. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  const key = sessionStorage.getItem(KEY);
  if (key !== null) headers.set('authorization', `Bearer ${key}`);
  const response = await fetch(path, { ...init, headers });
  if (!response.ok) throw await readServerError(response);
  return response;
}

/** The same, with a JSON body. */
export function requestWithJson(path: string, method: 'POST' | 'PATCH', body: object, init: RequestInit = {}) {
  return request(path, {
    ...init,
    method,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
}
