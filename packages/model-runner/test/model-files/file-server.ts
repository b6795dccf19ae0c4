/** A real HTTP server on 127.0.0.1 for the download tests: serves bytes, with ranges, and can break off or lie as a test asks. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface FileServer extends AsyncDisposable {
  readonly url: string;
  /** `<method> <path> <range or ->` of every request, in order. */
  readonly requests: string[];
}

export type Handler = (request: IncomingMessage, response: ServerResponse, requestNumber: number) => void;

/** Starts a server that answers with `handler`; `requestNumber` counts from 1. */
export async function startFileServer(handler: Handler): Promise<FileServer> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url} ${request.headers.range ?? '-'}`);
    handler(request, response, requests.length);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Answers like a static file server: 200, or 206 for a range. `breakAfter` bytes of the body the connection is cut. */
export function sendBytes(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Buffer,
  options: { readonly breakAfter?: number; readonly ignoreRange?: boolean } = {},
): void {
  const start = options.ignoreRange ? 0 : Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  if (start >= bytes.length && start > 0) {
    response.writeHead(416).end();
    return;
  }
  const body = bytes.subarray(start);
  const headers: Record<string, string> = { 'content-length': String(body.length) };
  if (start > 0) headers['content-range'] = `bytes ${start}-${bytes.length - 1}/${bytes.length}`;
  response.writeHead(start > 0 ? 206 : 200, headers);
  if (options.breakAfter === undefined) {
    response.end(body);
    return;
  }
  response.write(body.subarray(0, options.breakAfter), () => setTimeout(() => response.destroy(), 20));
}
