import { describe, expect, it } from 'vitest';
import { Utf8Stream } from './utf8-stream.js';

const texts = ['plain', 'é€😀', '👩‍👩‍👧 família 中文 🇨🇭', '\ufeffmark', ''];

describe('Utf8Stream', () => {
  it.each(texts)('gives whole characters only, whatever the cut: %j', (text) => {
    const bytes = new TextEncoder().encode(text);
    for (let size = 1; size <= 5; size++) {
      const stream = new Utf8Stream();
      const pieces: string[] = [];
      for (let at = 0; at < bytes.length; at += size) pieces.push(stream.push(bytes.subarray(at, at + size)));
      expect(pieces.join('')).toBe(text);
      expect(pieces.join('|')).not.toMatch(/\ufffd/);
      expect(stream.isComplete).toBe(true);
    }
  });

  it('holds the beginning of a character until it is complete', () => {
    const stream = new Utf8Stream();
    const [a = 0, b = 0, c = 0, d = 0] = new TextEncoder().encode('😀');
    expect(stream.push(Uint8Array.of(65, a, b))).toBe('A');
    expect(stream.isComplete).toBe(false);
    expect(stream.push(Uint8Array.of(c))).toBe('');
    expect(stream.push(Uint8Array.of(d, 66))).toBe('😀B');
  });

  it('replaces what can be no UTF-8 instead of waiting for it forever', () => {
    const stream = new Utf8Stream();
    expect(stream.push(Uint8Array.of(0x80, 0x80, 0x80, 0x80, 65))).toBe('\ufffd\ufffd\ufffd\ufffdA');
    expect(stream.push(Uint8Array.of(0xff))).toBe('\ufffd');
    expect(stream.push(Uint8Array.of(0xc3))).toBe('');
    expect(stream.push(Uint8Array.of(65))).toBe('\ufffdA');
  });
});
