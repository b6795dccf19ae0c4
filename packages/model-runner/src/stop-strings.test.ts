import { describe, expect, it } from 'vitest';
import { StopStrings } from './stop-strings.js';

/** Feeds pieces; returns what was emitted, the stop that matched and where. */
function run(stops: string[], pieces: string[]) {
  const watch = new StopStrings(stops);
  let emitted = '';
  for (const piece of pieces) {
    const { text, match } = watch.push(piece);
    emitted += text;
    if (match !== null) return { emitted, ...match };
  }
  return { emitted: emitted + watch.flush(), stop: null, at: null };
}

describe('StopStrings', () => {
  it.each([
    ['inside one piece', ['END'], ['one END two'], { emitted: 'one ', stop: 'END', at: 4 }],
    ['across pieces', ['END'], ['one E', 'N', 'D two'], { emitted: 'one ', stop: 'END', at: 4 }],
    ['a false start first', ['aab'], ['a', 'a', 'a', 'b'], { emitted: 'a', stop: 'aab', at: 1 }],
    ['the earlier of two', ['yy', 'x'], ['ax', 'yy'], { emitted: 'a', stop: 'x', at: 1 }],
    ['the longer at one place', ['ab', 'abc'], ['zabc'], { emitted: 'z', stop: 'abc', at: 1 }],
    ['at the very start', ['Q:'], ['Q', ':'], { emitted: '', stop: 'Q:', at: 0 }],
    ['none', ['END'], ['E', 'N', ' d'], { emitted: 'EN d', stop: null, at: null }],
    ['only a beginning at the end', ['END'], ['the EN'], { emitted: 'the EN', stop: null, at: null }],
    ['no stops at all', [], ['a', 'b'], { emitted: 'ab', stop: null, at: null }],
  ])('%s', (_name, stops, pieces, expected) => {
    expect(run(stops, pieces)).toEqual(expected);
  });

  it('holds back no more than what could begin a stop string', () => {
    const watch = new StopStrings(['\n\nUser:']);
    expect(watch.push('Hello.\n').text).toBe('Hello.');
    expect(watch.push('\nUs').text).toBe('');
    expect(watch.push('ually').text).toBe('\n\nUsually');
  });

  it('never emits any part of a stop string, however the text is cut', () => {
    const text = 'xxababcababx--STOP-STOPPED';
    for (let size = 1; size <= 6; size++) {
      const pieces = text.match(new RegExp(`.{1,${size}}`, 'gs')) ?? [];
      expect(run(['abcab', 'STOPPED'], pieces)).toEqual({ emitted: 'xxab', stop: 'abcab', at: 4 });
      expect(run(['STOPPED'], pieces)).toEqual({ emitted: 'xxababcababx--STOP-', stop: 'STOPPED', at: 19 });
    }
  });
});
