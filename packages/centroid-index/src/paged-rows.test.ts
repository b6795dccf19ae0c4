import { describe, expect, it } from 'vitest';
import { PagedRows } from './paged-rows.js';

const one = Float32Array.of(1);
const read = (rows: PagedRows) => Array.from({ length: rows.length }, (_, row) => rows.dot(row, one, 0));
const numbers = (from: number, to: number) => Float32Array.from({ length: to - from }, (_, i) => from + i);

describe('PagedRows', () => {
  it('forks share rows and do not see what the other appends, in the middle of a page and at its end', () => {
    for (const length of [255, 256, 300]) {
      const rows = new PagedRows(1);
      rows.append(numbers(0, length));
      const fork = rows.fork();
      fork.append(Float32Array.of(-1));
      rows.append(Float32Array.of(-2));
      fork.append(Float32Array.of(-3));
      expect(read(rows)).toEqual([...numbers(0, length), -2]);
      expect(read(fork)).toEqual([...numbers(0, length), -1, -3]);
    }
  });
  it('a cut fork leaves the rows of the other', () => {
    const rows = new PagedRows(1);
    rows.append(numbers(0, 600));
    const fork = rows.fork();
    fork.truncate(100);
    fork.append(Float32Array.of(-1));
    rows.truncate(500);
    expect(read(rows)).toEqual([...numbers(0, 500)]);
    expect(read(fork)).toEqual([...numbers(0, 100), -1]);
  });
});
