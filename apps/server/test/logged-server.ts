/** A server on the model under test whose log lines a test can look at, and what is asked of it. */
import { pino } from 'pino';
import { expect } from 'vitest';
import { type RunningServer, type StartServerOptions, startServer } from '../src/index.js';

export type Line = Readonly<Record<string, unknown>>;

export interface Logged {
  readonly server: RunningServer;
  readonly lines: readonly Line[];
  /** Of the engine that was last ready. */
  readonly enginePid: () => number;
}

export async function startLogged(options: StartServerOptions): Promise<Logged> {
  const lines: Line[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const server = await startServer({ port: 0, handleSignals: false, logger, load: { numThreads: 1 }, ...options });
  const enginePid = () => lines.filter(({ msg }) => msg === 'engine ready').at(-1)!.enginePid as number;
  return { server, lines, enginePid };
}

export function ask(server: RunningServer, body: object): Promise<Response> {
  const defaults = { model: 'test-model', messages: [{ role: 'user', content: 'Say hi.' }], temperature: 0 };
  return fetch(`${server.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...defaults, ...body }),
  });
}

export async function textOf(response: Response): Promise<string> {
  expect(response.status).toBe(200);
  const { choices } = (await response.json()) as { choices: { message: { content: string } }[] };
  return choices[0]!.message.content;
}

export const health = async ({ url }: RunningServer) =>
  (await (await fetch(`${url}/health`)).json()) as { status: string; running: number; models: object[] };
