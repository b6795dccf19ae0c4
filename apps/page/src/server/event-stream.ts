/** Server-sent events, read with fetch because EventSource can send neither a body nor a key. Source: the HTML standard, section 9.2. */

/** Takes a stream's text in any pieces, and gives the data of each event that is whole. Comments and other fields are left out. */
export class EventParser {
  #rest = '';
  #data: string[] = [];

  push(text: string): string[] {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? '';
    const events: string[] = [];
    for (const line of lines) {
      if (line !== '') {
        if (line.startsWith('data:')) this.#data.push(line.slice(line[5] === ' ' ? 6 : 5));
      } else if (this.#data.length > 0) {
        events.push(this.#data.join('\n'));
        this.#data = [];
      }
    }
    return events;
  }
}

/** The data of each event of a response's body. Leaving the loop early closes the connection. */
export async function* eventData(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      yield* parser.push(decoder.decode(value, { stream: !done }));
      if (done) return;
    }
  } finally {
    await reader.cancel().catch(() => {}); // a connection that is gone needs no goodbye
  }
}
