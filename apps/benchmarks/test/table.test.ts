import { expect, test } from 'vitest';
import { makeTable, textTable } from '../src/tables/table.js';

test('names stand to the left, figures to the right', () => {
  const table = makeTable<[string, number]>(
    'A title',
    [
      ['', ([name]) => name],
      ['ms', ([, ms]) => String(ms)],
    ],
    [
      ['full', 1234],
      ['a longer name', 5],
    ],
  );
  expect(textTable(table)).toBe('                 ms\nfull           1234\na longer name     5');
});

test('a table without rows has its head', () => {
  expect(textTable(makeTable('', [['ms', () => '']], []))).toBe('ms');
});
