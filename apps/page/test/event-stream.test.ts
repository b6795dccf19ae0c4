import { describe, expect, test } from 'vitest';
import { EventParser, eventData } from '../src/server/event-stream.js';

const text =
  ': keep-alive\ndata: {"a":1}\n\ndata:two\r\ndata: lines\r\n\r\nevent: x\nid: 7\n\ndata: größer ☃\n\ndata: cut';

describe('events', () => {
  test('are the same however the text is cut', () => {
    for (let size = 1; size <= text.length; size++) {
      const parser = new EventParser();
      const events = [];
      for (let at = 0; at < text.length; at += size) events.push(...parser.push(text.slice(at, at + size)));
      expect(events, `pieces of ${size}`).toEqual(['{"a":1}', 'two\nlines', 'größer ☃']);
    }
  });

  test('are read from bytes that are cut inside a letter', async () => {
    const bytes = new TextEncoder().encode(text);
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
        controller.close();
      },
    });
    const events = [];
    for await (const data of eventData(body)) events.push(data);
    expect(events).toEqual(['{"a":1}', 'two\nlines', 'größer ☃']);
  });

  test('leaving the loop closes the connection', async () => {
    let isClosed = false;
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new TextEncoder().encode('data: again\n\n')),
      cancel: () => {
        isClosed = true;
      },
    });
    for await (const data of eventData(body)) {
      expect(data).toBe('again');
      break;
    }
    expect(isClosed).toBe(true);
  });
});
