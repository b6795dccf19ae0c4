/** A client on a bare socket: it can do to a server what no HTTP library would. Its failures are its own. */
import { connect, type Socket } from 'node:net';

/** The bytes of a chat request for the echo engine. */
export function chatBytes(content: string, more: object = {}): string {
  const body = JSON.stringify({ model: 'echo', messages: [{ role: 'user', content }], ...more });
  return [
    'POST /v1/chat/completions HTTP/1.1',
    'host: localhost',
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
    '',
    body,
  ].join('\r\n');
}

export class RawClient {
  readonly #socket: Socket;
  /** All that was received. */
  received = '';

  constructor(port: number) {
    this.#socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    this.#socket.on('error', () => {});
    this.#socket.setEncoding('utf8').on('data', (text: string) => {
      this.received += text;
    });
  }

  /** Whether the server has ended its side, or the connection is gone. */
  get ended(): boolean {
    return this.#socket.readableEnded || this.#socket.destroyed;
  }

  send(bytes: string): void {
    if (this.#socket.writable) this.#socket.write(bytes);
  }

  halfClose(): void {
    this.#socket.end();
  }

  close(): void {
    this.#socket.destroy();
  }

  reset(): void {
    this.#socket.resetAndDestroy();
  }

  stopReading(): void {
    this.#socket.pause();
  }

  readOn(): void {
    this.#socket.resume();
  }
}
