import { describe, expect, test } from 'vitest';
import { HEAT_LEVELS, heatLevel, heats } from '../src/read-map/heat.js';
import { mostRead } from '../src/read-map/quotes.js';
import { readShares } from '../src/read-map/read-map.js';
import { stripCells } from '../src/read-map/strip-cells.js';

describe('shares of reading', () => {
  test('are summed over tokens, without the first passage and what lies behind the document', () => {
    const maps = [
      [
        [0, 0.6],
        [2, 0.25],
        [4, 0.1],
      ],
      [
        [2, 0.5],
        [3, 0.125],
      ],
    ] as const;
    expect(readShares(maps, 4)).toEqual(Float64Array.of(0, 0, 0.75, 0.125));
  });
});

describe('heat', () => {
  test('is relative to the passage read most, however little that was', () => {
    expect(heats(Float64Array.of(0, 0.0004, 0.0016))).toEqual(Float64Array.of(0, 0.5, 1));
    expect(heats(Float64Array.of(0, 0.2, 0.8))).toEqual(Float64Array.of(0, 0.5, 1));
  });

  test('of nothing read is nothing', () => {
    expect(heats(new Float64Array(3))).toEqual(new Float64Array(3));
  });

  test('has levels from not shown to the highest', () => {
    expect([0, 0.12, 0.125, 0.2, 0.21, 0.99, 1].map(heatLevel)).toEqual([0, 0, 1, 1, 2, 5, HEAT_LEVELS]);
  });
});

describe('cells of the strip', () => {
  test('are the passages themselves where there is room', () => {
    const cells = stripCells(Float64Array.of(0, 1, 0.5), 10);
    expect(cells).toEqual([
      { from: 0, passage: 0, heat: 0 },
      { from: 1, passage: 1, heat: 1 },
      { from: 2, passage: 2, heat: 0.5 },
    ]);
  });

  test('show the hottest passage of each stretch and leave none out', () => {
    for (const numPassages of [161, 320, 999, 3001]) {
      const values = new Float64Array(numPassages);
      for (let hot = 0; hot < numPassages; hot++) {
        values.fill(0)[hot] = 1;
        const warm = stripCells(values, 160).filter(({ heat }) => heat > 0);
        expect(warm.map(({ passage }) => passage)).toEqual([hot]);
      }
    }
  });
});

describe('passages read most', () => {
  const passages = ['a ', 'b\n', 'c ', 'd ', 'e ', 'f ', 'g ', 'h '];

  test('are one quote where they are neighbours, with the share of all that was read', () => {
    const quotes = mostRead(Float64Array.of(0, 0.5, 0.25, 0, 0, 0.25, 0, 0), passages, 4);
    expect(quotes).toEqual([
      { passage: 1, text: 'b c', share: 0.75 },
      { passage: 5, text: 'f', share: 0.25 },
    ]);
  });

  test('do not run away over a text that was read evenly', () => {
    const quotes = mostRead(new Float64Array(8).fill(0.125), passages, 4);
    expect(quotes.map(({ share }) => share)).toEqual([0.5, 0.5]);
  });

  test('are none where nothing was read, and leave out what is slight beside the first', () => {
    expect(mostRead(new Float64Array(8), passages, 4)).toEqual([]);
    const quotes = mostRead(Float64Array.of(0, 0.9, 0, 0, 0.01, 0, 0, 0), passages, 4);
    expect(quotes.map(({ passage }) => passage)).toEqual([1]);
  });
});
