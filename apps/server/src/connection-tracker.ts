/**
 * Knows which connections of a server carry a request. node:http's own `closeIdleConnections()` leaves out those that were opened and
 * never used, as browsers and connection pools do; stopping would wait for their timeout.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

export class ConnectionTracker {
  /** Requests in progress by open connection. */
  readonly #numRequests = new Map<Socket, number>();
  #draining = false;

  constructor(server: Server) {
    server.on('connection', (socket: Socket) => {
      this.#numRequests.set(socket, 0);
      socket.once('close', () => this.#numRequests.delete(socket));
    });
    server.prependListener('request', (request: IncomingMessage, response: ServerResponse) => {
      const { socket } = request;
      this.#count(socket, 1);
      response.once('close', () => {
        this.#count(socket, -1);
        if (this.#draining) this.#destroyIdle();
      });
    });
  }

  /** Cuts every connection without a request now, and each other one when its last request ends. */
  drain(): void {
    this.#draining = true;
    this.#destroyIdle();
  }

  #count(socket: Socket, change: 1 | -1): void {
    const count = this.#numRequests.get(socket);
    if (count !== undefined) this.#numRequests.set(socket, count + change);
  }

  #destroyIdle(): void {
    for (const [socket, count] of this.#numRequests) if (count === 0) socket.destroySoon();
  }
}
