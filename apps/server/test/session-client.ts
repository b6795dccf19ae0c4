/** Document sessions over HTTP, as a client uses them. */
import { expect } from 'vitest';

export interface Session {
  readonly id: string;
  readonly model: string;
  readonly name: string;
  readonly state: string;
  readonly tokens_done: number;
  readonly tokens_total: number;
}

export type Shares = [number, number][];

export interface Completion {
  readonly choices: { readonly message: { readonly content: string } }[];
  readonly usage: {
    readonly prompt_tokens: number;
    readonly prompt_tokens_details: { readonly cached_tokens: number };
  };
  readonly ctkvr: { readonly time_to_first_token_ms: number; readonly read_map?: Shares };
}

export const post = (url: string, body: object) =>
  fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });

/** @param url of the server. */
export async function ask(url: string, session: string, question: string, more: object = {}): Promise<Completion> {
  const response = await post(`${url}/v1/chat/completions`, {
    model: 'test-model',
    messages: [{ role: 'user', content: question }],
    session,
    temperature: 0,
    max_tokens: 12,
    ...more,
  });
  expect(response.status).toBe(200);
  return (await response.json()) as Completion;
}

export const textOf = ({ choices }: Completion) => choices[0]!.message.content;
